"""The options of a multiple-choice question, in the layouts that question sets come in.

Seen in SAGE-Bench: options in the question, a line each; the first one on the line of the heading; labels twice (``(A) A) text``). In other
sets: lists, objects by label, lists of objects, two parallel lists (``{"text": [...], "label": [...]}``), any of them as text in a table.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

# A label: "(A)", "[A]", "A)", "A.", "A:", in either case, or a number in its place.
_LABEL: Final = r"(?:\((?P<round>[A-Za-z]|\d{1,2})\)|\[(?P<square>[A-Za-z]|\d{1,2})\]|(?P<bare>[A-Za-z]|\d{1,2})(?:\)|[.:](?=\s|$)))"
_FIRST_LABEL: Final = re.compile(rf"\s*{_LABEL}\s*")
_MARK: Final = re.compile(rf"(?:(?P<line>^|\n)[ \t*-]*|(?<=\s)){_LABEL}")
_HEADING: Final = re.compile(r"\b(?:options?|choices?|choose|select|following|pick)\b", re.IGNORECASE)
_TEXTS: Final = ("text", "option", "value", "content", "answer", "choice")
_LABELS: Final = ("label", "letter", "key", "id")


def letter(number: int) -> str:
    """The label of an option by its place: 0 is ``"A"``."""
    return chr(ord("A") + number)


def in_text(question: str) -> tuple[list[str], bool]:
    """The options that a question holds, without their labels, and whether those are numbers.

    There are none where no series of labels counts up from A (or 1) without a gap. "Say (a) who and (b) why" is no such series: lower case
    or numbers within a line need a heading that speaks of options.
    """
    marks = list(_MARK.finditer(question))
    # "(A) A) text": the second label is part of the text, and taken from it below.
    marks = [mark for before, mark in zip([None, *marks], marks) if not _doubled(question, before, mark)]  # noqa: B905
    every = [_series(marks[place:], question) for place, mark in enumerate(marks) if _number(mark) == 0]
    best = max(every, key=lambda series: (len(series), sum(mark["line"] is not None for mark in series)), default=[])
    if len(best) < 2:
        return [], False
    texts = [question[mark.end() : after.start()] for mark, after in pairwise(best)]
    texts.append(question[best[-1].end() :].lstrip(" \t").partition("\n")[0])
    return unlabelled([" ".join(text.split()) for text in texts]), _name(best[0]).isdigit()


def _doubled(text: str, before: re.Match[str] | None, mark: re.Match[str]) -> bool:
    return before is not None and _number(before) == _number(mark) and not text[before.end() : mark.start()].strip()


def _series(marks: Sequence[re.Match[str]], text: str) -> list[re.Match[str]]:
    """Marks of one style that count up. "A." and "A:" count only at the start of a line, but for the first, which may follow a heading."""
    first = marks[0]
    headed = _HEADING.search(text, 0, first.start()) is not None
    series = [first]
    for mark in marks[1:]:
        ambiguous = (not headed and not _name(first).isupper()) or mark[0].strip(" \t\n*-")[-1] in ".:"
        if _style(mark) == _style(first) and _number(mark) == len(series) and (mark["line"] is not None or not ambiguous):
            series.append(mark)
    return series


def listed(options: Any) -> tuple[list[str], list[str]]:
    """Options given apart from the question: their texts, and the labels that they are known by there.

    Raises:
        ValueError: they are in no known layout.
    """
    if isinstance(options, str):
        for read in (json.loads, literal_eval):  # tables have lists as JSON, or as Python writes them
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return listed(read(options))
        lines = [line.strip() for line in options.split("\n") if line.strip()]
        return _labelled((_in_line(lines[0]) if len(lines) == 1 else []) or in_text(options)[0] or lines)
    if isinstance(options, Mapping):
        columns = [options.get(name) for name in ("text", "label")]
        if all(isinstance(column, list) for column in columns):
            return unlabelled([str(text) for text in columns[0] or ()]), [str(label) for label in columns[1] or ()]
        return unlabelled([_text(value) for value in options.values()]), [str(key) for key in options]
    if not isinstance(options, Sequence):
        raise ValueError("options are neither a list nor an object")
    if options and all(isinstance(option, Mapping) for option in options):
        labels = [str(_of(option, _LABELS, letter(number))) for number, option in enumerate(options)]
        return unlabelled([_text(option) for option in options]), labels
    return _labelled([_text(option) for option in options])


def _in_line(text: str) -> list[str]:
    """Options in one line, each after its label and a separator: ``A. red, B. blue``."""
    found: list[str] = []
    while begun := re.match(rf"\s*\(?{letter(len(found))}[.:)]\s+(.+)", text):
        option, separator, text = _split(begun[1], letter(len(found) + 1))
        found.append(option)
        if not separator:
            break
    return found if len(found) > 1 else []


def _split(text: str, label: str) -> tuple[str, str, str]:
    """The text before a label and its separator, that, and the label with what follows."""
    mark = re.search(rf"[,;|/]\s+(?=\(?{label}[.:)]\s)", text)
    return (text[: mark.start()].rstrip(), mark[0], text[mark.end() :]) if mark else (text.strip(), "", "")


def _labelled(texts: list[str]) -> tuple[list[str], list[str]]:
    return unlabelled(texts), [letter(number) for number in range(len(texts))]


def _text(option: Any) -> str:
    return str(_of(option, _TEXTS, option)) if isinstance(option, Mapping) else str(option)


def _of(option: Mapping[str, Any], names: Sequence[str], default: Any) -> Any:
    return next((option[name] for name in names if option.get(name) is not None), default)


def unlabelled(texts: Sequence[str]) -> list[str]:
    """Texts without the labels that they begin with: each its own, ``A) red``, ``B) blue``. ``A. Lincoln`` among others is a name."""
    found = [mark if mark and _number(mark) == place else None for place, mark in enumerate(map(_FIRST_LABEL.match, texts))]
    sure = [mark for mark in found if mark and mark[0].rstrip()[-1] in ")]"]
    if not sure and not (texts and all(found)):
        return [text.strip("* ") or text.strip() for text in texts]
    if not all(found):
        found = [mark if mark in sure else None for mark in found]
    bare = [text[mark.end() :].strip() if mark else text.strip() for mark, text in zip(found, texts, strict=True)]
    return [text.strip("* ") for text in bare] if all(bare) else [text.strip() for text in texts]


def _name(mark: re.Match[str]) -> str:
    groups = mark.groupdict()
    return next(label for name in ("round", "square", "bare") if (label := groups.get(name)))


def _number(mark: re.Match[str]) -> int:
    label = _name(mark)
    return int(label) - 1 if label.isdigit() else ord(label.upper()) - ord("A")


def _style(mark: re.Match[str]) -> tuple[str, str, bool, bool]:
    text = mark[0].strip(" \t\n*-")
    return text[0] if text[0] in "([" else "", text[-1], _name(mark).isdigit(), _name(mark).islower()
