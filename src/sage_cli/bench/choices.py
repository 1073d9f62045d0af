"""The options of a record and which of them is right, in the ways that question sets say it: by label, by number or by words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from sage_cli.bench.naming import named
from sage_cli.bench.options import in_text, letter, listed, unlabelled
from sage_cli.bench.words import amounts, is_amount, words

Row: TypeAlias = Mapping[str, Any]
First: TypeAlias = Literal[0, 1]
"""The number of the first option."""

_TRUTHS: Final = ("gt_answer", "full_answer")
_INDICES: Final = ("answer_id", "answer_index", "answer_idx", "correct_choice")
_LISTS: Final = ("options", "choices", "candidates")
# Options in fields of their own, as in answer_choice_0 (MINERVA), option0 (LongVideoBench), "option 0" (EgoSchema), a0 (NExT-QA), A.
_FIELD: Final = re.compile(r"(?:(answer_choice|option|choice)[ _]?)?(\d{1,2}|[A-Za-z])|(a)(\d)")
_ABSENT: Final = "N/A"  # LongVideoBench's option that is not there
_OPEN: Final = ("open_ended", "open-ended")


@dataclass(frozen=True, slots=True)
class Choices:
    """Options of a question, and its right answer.

    Attributes:
        options: in order, without labels.
        letter: of the right option; ``None`` if there are no options, or none of them is said to be right.
        reference: the right answer in words.
        numbered: the labels in the question are 1, 2, 3.
        in_question: the question's text contains the options.
    """

    options: tuple[str, ...]
    letter: str | None
    reference: str
    numbered: bool = False
    in_question: bool = False


@dataclass(frozen=True, slots=True)
class _Listed:
    """Options as a record lists them: their texts, and the labels that they are known by."""

    options: list[str]
    labels: list[str]
    numbered: bool
    in_question: bool
    open: bool
    fields: bool = False

    def counted_by(self, key: str) -> bool:
        """Whether a number in this field counts the options: the answer to an open question does not, nor does a label."""
        labelled = self.fields and self.labels[0].isdigit()  # numbers are labels; one that is not there leaves a gap
        return bool(self.options) and not self.open and not labelled and (key in _INDICES or not self.numbered)


def choices(row: Row, answered: bool, counting: Mapping[str, First]) -> Choices:
    """The options of a record and the right one.

    Args:
        answered: it is of a results file, where "answer" is what a model said.
        counting: see :func:`counted_from`.

    Raises:
        KeyError: it has no right answer.
        ValueError: its options are in no known layout; or the right one is a number, and nothing tells what that counts from.
    """
    found = _listed(row)
    right = _right(row, found, answered, counting)
    if right is not None:
        return Choices(tuple(found.options), letter(right), found.options[right], found.numbered, found.in_question)
    truths = (*_TRUTHS, *(() if answered else ("answer",)), "correct_answer")
    if found.options and all(row.get(key) is None for key in truths):
        for key in (key for key in _INDICES if row.get(key) is not None):
            raise ValueError(f"{key} {row[key]} is not one of {len(found.options)} options")
    truth = first(row, *truths)
    reference = ("yes" if truth else "no") if isinstance(truth, bool) and not found.options else _text(truth)
    return Choices(tuple(found.options), None, reference, found.numbered, found.in_question)


def counted_from(rows: Iterable[Row], answered: bool) -> dict[str, First]:
    """Whether the numbers of right options count from 0 or from 1, by field, as far as the records tell.

    A 0 tells that they count from 0; the count of the options, that they count from 1; a right answer in words beside the number, either.

    Raises:
        ValueError: one record tells this, another that.
    """
    told: dict[str, First] = {}
    for row in rows:
        try:
            found = _listed(row)
        except (KeyError, ValueError, TypeError, AttributeError):
            continue  # told of this record when its turn comes
        for key, number in _numbers(row, found, answered):
            first: First | None = 0 if number == 0 else 1 if number == len(found.options) else _by_words(row, key, number, found, answered)
            if first is not None and told.setdefault(key, first) != first:
                raise ValueError(f"{key} counts the options from 0 in one record, and from 1 in another: give letters")
    return told


def _numbers(row: Row, found: _Listed, answered: bool) -> Iterator[tuple[str, int]]:
    """The fields that have a number of an option, which is neither a label nor the words of one."""
    for key in _keys(answered):
        number = _number(row.get(key))
        if number is None or not found.counted_by(key):
            continue
        if str(number) not in found.labels and (key in _INDICES or _same_words(str(number), found.options) is None):
            yield key, number


def _by_words(row: Row, key: str, number: int, found: _Listed, answered: bool) -> First | None:
    others = [_text(row[other]) for other in _keys(answered) if other != key and row.get(other) is not None]
    places = {_same_words(other, found.options) for other in others if _number(other) is None} - {None}
    return 0 if places == {number} else 1 if places == {number - 1} else None


def _keys(answered: bool) -> tuple[str, ...]:
    return (*_INDICES, "correct_answer", *_TRUTHS, *(() if answered else ("answer",)))


def _listed(row: Row) -> _Listed:
    is_open = row.get("ques_type") in _OPEN
    given = next((row[key] for key in _LISTS if row.get(key)), None) or (row["option"] if isinstance(row.get("option"), list) else None)
    if given:
        options, labels = listed(given)
        if len(options) == 1 and not is_open:
            raise ValueError(f"it has a single option, {options[0]!r}: give a list")
        return _Listed(options, labels, numbered=False, in_question=False, open=is_open)
    written, numbered = in_text(str(row["question"])) if not is_open else ([], False)
    texts = _in_fields(row) if not is_open else {}
    if len(texts) > 1 and not (written and all(label.isalpha() for label in texts)):
        options = unlabelled(list(texts.values()))
        return _Listed(options, list(texts), numbered=False, in_question=bool(written), open=False, fields=True)
    return _Listed(written, [], numbered, in_question=True, open=is_open)


def _in_fields(row: Row) -> dict[str, str]:
    """Options in fields of their own, by label: of the fields that are numbered from 0 or 1, or lettered from A, and named alike."""
    families: dict[str, dict[str, str]] = {}
    for key, value in row.items():
        match = _FIELD.fullmatch(str(key))
        if match is not None and value is not None and _text(value) != _ABSENT:
            label = match[2] or match[4]
            if match[1] or match[3] or label.isalpha():
                family = f"{match[1] or match[3]} {'number' if label.isdigit() else 'lower' if label.islower() else 'upper'}"
                families.setdefault(family, {})[label.upper().lstrip("0") or "0"] = _text(value)
    begun = [texts for texts in families.values() if {"0", "1"} & set(texts) or _in_sequence(texts)]
    found = max(begun, key=len, default={})
    return dict(sorted(found.items(), key=lambda option: (len(option[0]), option[0])))


def _in_sequence(labels: Iterable[str]) -> bool:
    """Whether labels are A, B, C without a gap: other fields may be named by a letter."""
    return sorted(labels) == [letter(place) for place, _ in enumerate(labels)]


def _right(row: Row, found: _Listed, answered: bool, counting: Mapping[str, First]) -> int | None:
    """The place of the right option; the first field that names one counts."""
    unclear = ""
    for key in _keys(answered):
        if (value := row.get(key)) is None:
            continue
        told, number = _text(value).strip(), _number(value)
        if told in found.labels:
            return found.labels.index(told)
        start = counting.get(key, 0 if key in _INDICES else None) if found.counted_by(key) else 1 if found.numbered else None
        if number is not None and start is not None and 0 <= number - start < len(found.options):
            return number - start
        same = _same_words(told, found.options)
        if same is None and isinstance(value, bool):
            same = _same_words("yes" if value else "no", found.options)
        place = named(told, found.options, numbered=found.numbered) if same is None and number is None else same
        if place is not None:
            return place
        if number == 0 and found.numbered:
            unclear = unclear or f"{key} is 0, and the question numbers its options from 1"
        if number is not None and 0 < number < len(found.options) and found.counted_by(key):
            unclear = unclear or f"{key} is {number}, and nothing tells whether that counts the options from 0 or from 1"
    if unclear:
        raise ValueError(f"{unclear}: give the letter, or a number from 0 as answer_index")
    return None


def _number(value: Any) -> int | None:
    """A whole number, or one as text; parquet files have whole numbers as fractions where others are missing."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() and not (isinstance(value, str) and not value.strip().isdecimal()) else None


def _same_words(told: str, options: Sequence[str]) -> int | None:
    """The one option of these words; for a number also the one in which it occurs, as in "3 stars"."""
    same = [place for place, option in enumerate(options) if words(option) == words(told)]
    if not same and is_amount(words(told)):
        same = [place for place, option in enumerate(options) if words(told) in amounts(option)]
    return same[0] if len(same) == 1 else None


def first(row: Row, *keys: str, default: object = None) -> Any:
    """The value of the first of several fields that a record has.

    Raises:
        KeyError: it has none of them, and there is no default.
    """
    for key in keys:
        if row.get(key) is not None:
            return row[key]
    if default is None:
        raise KeyError(" or ".join(keys))
    return default


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
