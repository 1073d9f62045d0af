"""Lines of a cue: how wide a text is on a screen, and where it may be broken.

Chinese, Japanese and Korean characters are as wide as two others. Chinese and Japanese have no spaces: a line may end after any character,
but not before closing punctuation, and best after a clause.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Layout:
    """How much a cue may hold.

    Attributes:
        width: most characters of a line; Chinese, Japanese and Korean ones count twice.
        lines: most lines of a cue.
        seconds: longest a cue may last.
    """

    width: int = 42
    lines: int = 2
    seconds: float = 7.0


DEFAULT = Layout()

_TURN = re.compile(r"\n(?=>>|[-\u2010-\u2015])")
_ANYWHERE, _NOWHERE = 2, 3  # grades of breaks


def wrap(text: str, layout: Layout = DEFAULT) -> list[str]:
    """The text in lines of about equal width, as few as possible; a word longer than a line is broken.

    The turns of a dialogue stay on lines of their own if there are lines enough.
    """
    turns = _TURN.split(text)
    if len(turns) > 1:
        apart = [line for turn in turns for line in wrap(turn, layout)]
        together = wrap(" ".join(turns), layout)
        return apart if len(apart) <= max(layout.lines, len(together)) else together
    width, parts = layout.width, _smallest(text, layout.width)
    count = _count(parts, width)
    if count > 1:
        # The better places, if they are enough; and the narrowest width that needs no more lines.
        better = (_units(text, grade) for grade in range(_ANYWHERE))
        parts = next((units for units in better if max(map(columns, units)) <= width and _count(units, width) == count), parts)
        low, high = max(columns(part.rstrip()) for part in parts), width
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if _count(parts, middle) <= count else (middle + 1, high)
        width = low
    lines: list[str] = []
    for part in parts:
        if lines and columns(lines[-1] + part.rstrip()) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return [line.rstrip() for line in lines] or [""]


def fits(text: str, layout: Layout) -> bool:
    """Whether the text needs no more lines than there may be."""
    length = columns(text)
    if length <= layout.width:
        return True
    return length <= (layout.width + 1) * layout.lines and _count(_smallest(text, layout.width), layout.width) <= layout.lines


def pieces(text: str, width: int) -> list[str]:
    """The smallest parts of a text that a line may begin with, without the spaces between them; none is wider than a line."""
    return [part.rstrip() for part in _smallest(text, width)]


def joined(lines: Sequence[str]) -> str:
    """Lines as one: with a space between them, but where both characters are of scripts that have none."""
    text = ""
    for line in lines:
        apart = text and line and not (_is_unspaced(text[-1]) and _is_unspaced(line[0]))
        text += f" {line}" if apart else line
    return text


def columns(text: str) -> int:
    """How wide a text is, in characters of Latin script."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(1 << 15)
def grade(before: str, after: str) -> int:
    """How bad it is to break between two characters: from 0, after a space or a clause, to 3, in a word or before closing punctuation."""
    if before.isspace():
        return 0
    if _category(after) in _CLOSING or _is_small(after) or _category(before) in _OPENING:
        return _NOWHERE
    if not (_is_unspaced(before) or _is_unspaced(after)):
        return _NOWHERE
    if _category(before)[0] == "P":
        return 0
    # In Japanese, most phrases end in hiragana, and begin with another script.
    return 1 if _is_hiragana(before) and not _is_hiragana(after) else _ANYWHERE


def _units(text: str, worst: int) -> list[str]:
    """The parts of a text between breaks of a grade or better, each with the space after it, if any."""
    units: list[str] = []
    for word in text.split():
        if units:
            units[-1] += " "
        begin = 0
        for at in range(1, len(word)) if not word.isascii() else ():
            if grade(word[at - 1], word[at]) <= worst:
                units.append(word[begin:at])
                begin = at
        units.append(word[begin:])
    return units


def _smallest(text: str, width: int) -> list[str]:
    """The smallest parts that a line may begin with; what is wider than a line is cut anywhere."""
    return [part for unit in _units(text, _ANYWHERE) for part in ([unit] if columns(unit.rstrip()) <= width else _cut(unit, width))]


def _cut(word: str, width: int) -> list[str]:
    ends = [*accumulate(map(columns, word.rstrip()))]
    cut, begin = [], 0
    for at, end in enumerate(ends):
        if at > begin and end - (ends[begin - 1] if begin else 0) > width:
            cut.append(word[begin:at])
            begin = at
    return [*cut, word[begin:]]


def _count(units: Sequence[str], width: int) -> int:
    count, room = 0, -1
    for unit in units:
        length = columns(unit.rstrip())
        if length > room:
            count, room = count + 1, width
        room -= columns(unit)
    return count


# ---- characters ------------------------------------------------------------------------------------------------------

_OPENING, _CLOSING = ("Ps", "Pi", "Cf"), ("Pe", "Pf", "Po", "Lm", "Mn", "Me", "Cf")
_category = lru_cache(4096)(unicodedata.category)


@lru_cache(4096)
def _columns(character: str) -> int:
    if _category(character) in ("Mn", "Me", "Cf"):  # accents and the like, which stand above another character
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@lru_cache(4096)
def _is_unspaced(character: str) -> bool:
    """Whether it is of a script that has no spaces: wide letters and punctuation but Korean."""
    wide = unicodedata.east_asian_width(character) in "WFH" and _category(character)[0] in "LP"
    return wide and "HANGUL" not in unicodedata.name(character, "")


def _is_hiragana(character: str) -> bool:
    return "\u3041" <= character <= "\u309f"


@lru_cache(4096)
def _is_small(character: str) -> bool:
    """Whether it is a small kana, which belongs to the one before."""
    return "LETTER SMALL" in unicodedata.name(character, "") and _is_unspaced(character)
