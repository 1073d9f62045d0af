"""The options of a multiple-choice question, in the layouts that question sets come in, and which of them a text names.

Seen in SAGE-Bench: options in the question, a line each; the first one on the line of the heading; labels twice (``(A) A) text``). In other
sets: lists, objects by label, lists of objects, two parallel lists (``{"text": [...], "label": [...]}``), JSON in a string.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

# A label: "(A)", "[A]", "A)", "A.", "A:", in either case, or a number in its place.
_LABEL: Final = r"(?:\((?P<round>[A-Za-z]|\d{1,2})\)|\[(?P<square>[A-Za-z]|\d{1,2})\]|(?P<bare>[A-Za-z]|\d{1,2})(?:\)|[.:](?=\s|$)))"
_FIRST_LABEL: Final = re.compile(rf"\s*{_LABEL}\s*")
_MARK: Final = re.compile(rf"(?:(?P<line>^|\n)[ \t*-]*|(?<=\s)){_LABEL}")
_HEADING: Final = re.compile(r"\b(?:options?|choices?|choose|select|following|pick)\b", re.IGNORECASE)
_TEXTS: Final = ("text", "option", "value", "content", "answer", "choice")
_LABELS: Final = ("label", "letter", "key", "id")

# ---- which option a text names ----
_ALONE: Final = re.compile(r"^\W*(\w{1,2})\W*$")
_LEADING: Final = re.compile(rf"^[\s*_#>\"'`]*(?:{_LABEL}|(?P<dash>[A-Z])(?=\s+[-\u2013\u2014]\s|,\s))")
_OR: Final = re.compile(r"[\s,/]*(?:or|and|&|/|,)\s*[(\[]?(?:[A-Z]|\d{1,2})(?![\w'])", re.IGNORECASE)
_SAID: Final = re.compile(
    r"\b(?:option|choice|answer)(?:\s+(?:is|would\s+be|must\s+be)(?:\s+(?:option|choice))?)?\s*[:=]?\s*"
    r"[(\[*_`\"']*(?P<label>[A-Za-z]|\d{1,2})(?P<close>[)\]])?(?P<after>[*_`\"']*(?![\w'\u2019]).{0,12})",
    re.IGNORECASE | re.DOTALL,
)
_ENDS: Final = re.compile(r"[*_`\"'\s]*(?:$|[).\],:;!?\u2013\u2014-]|(?:because|since|as|is|and|for|which)\b)", re.IGNORECASE)
_IN_BRACKETS: Final = re.compile(r"(?<!not )(?<![\w(])[(\[]([A-Za-z]|\d{1,2})[)\]]")
_BOXED: Final = re.compile(r"\\boxed\{(?:\\text\{)?\(?([A-Za-z])\)?\}?\}")

_UNITS: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS: Final = {word: number for number, word in enumerate(_UNITS.split())} | {
    word: 10 * number for number, word in enumerate(_TENS.split(), 2)
}


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
        try:
            return listed(json.loads(options))
        except ValueError:
            texts = in_text(options)[0] or [line.strip() for line in options.split("\n") if line.strip()]
            return _labelled(texts)
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


def named(answer: str, options: Sequence[str], *, numbered: bool = False) -> int | None:
    """The place of the one option that an answer names, by its label or by its words; ``None`` for none, or several.

    A label counts if it is the whole answer, begins it, follows "answer", "option" or "choice", or is the only one in brackets. The
    articles "a" and "I" are no labels: "The answer is a dog" names the option whose words are "a dog".

    Args:
        numbered: the labels are 1, 2, 3.
    """
    same = [place for place, option in enumerate(options) if words(option) == words(answer) and words(option)]
    alone = _ALONE.match(answer)
    if alone and _is_label(alone[1], numbered):
        return place if (place := _place(alone[1])) < len(options) else None
    if len(same) == 1:
        return same[0]
    if (leading := _LEADING.match(answer)) and _is_label(_name(leading), numbered):
        several = _OR.match(answer, leading.end())
        return place if (place := _number(leading)) < len(options) and not several else None
    for labels in (_BOXED.findall(answer), _said(answer), _IN_BRACKETS.findall(answer)):
        places = {_place(label) for label in labels if _is_label(label, numbered)} & {*range(len(options))}
        if len(places) == 1:
            return places.pop()
    return _quoted(answer, options)


def _said(answer: str) -> list[str]:
    """Labels after "answer", "option" or "choice"; those that could be words only where the phrase ends or a reason follows."""
    found = []
    for match in _SAID.finditer(answer):
        could_be_a_word = match["label"] in "AI" or not match["label"].isupper()
        if match["close"] or not could_be_a_word or _ENDS.match(match["after"]):
            found.append(match["label"])
    return found


def _quoted(answer: str, options: Sequence[str]) -> int | None:
    """The one option whose words occur in the answer; an option contained in another found option does not count."""
    told = f" {words(answer)} "
    texts = [f" {words(option)} " for option in options]
    found = [text for text in texts if text.strip() and text in told]
    whole = [text for text in found if not any(text != other and text in other for other in found)]
    return texts.index(whole[0]) if len(whole) == 1 else None


def words(text: str) -> str:
    """Comparable words: without case, punctuation and spacing, numbers in digits ("twenty-one" is "21")."""
    text = unicodedata.normalize("NFKC", text).casefold()
    compared: list[str] = []
    tens = False  # the last word was a ten: "twenty" takes "one" in
    for word in re.findall(r"[\w%°$€£]+(?:[.,:'\u2019]\w+)*", text):
        number = _NUMBERS.get(word)
        if tens and number is not None and 0 < number < 10:
            compared[-1] = str(int(compared[-1]) + number)
        else:
            compared.append(word if number is None else str(number))
        tens = number is not None and number >= 20
    return " ".join(compared)


def _is_label(label: str, numbered: bool) -> bool:
    return label.isdecimal() if numbered else len(label) == 1 and label.isascii() and label.isalpha()


def _name(mark: re.Match[str]) -> str:
    groups = mark.groupdict()
    return next(label for name in ("round", "square", "bare", "dash") if (label := groups.get(name)))


def _number(mark: re.Match[str]) -> int:
    return _place(_name(mark))


def _place(label: str) -> int:
    return int(label) - 1 if label.isdigit() else ord(label.upper()) - ord("A")


def _style(mark: re.Match[str]) -> tuple[str, str, bool, bool]:
    text = mark[0].strip(" \t\n*-")
    return text[0] if text[0] in "([" else "", text[-1], _name(mark).isdigit(), _name(mark).islower()
