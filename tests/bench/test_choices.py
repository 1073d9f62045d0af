"""The right option by its number: counted from 0 or from 1 as the records tell, and refused where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from sage_cli.bench.choices import choices, counted_from

CHEESES = ["Cheddar", "Brie", "Gouda"]


def letters(*rows: dict[str, Any], answered: bool = False) -> list[str | None]:
    rows = tuple({"question": "Which?", "options": CHEESES} | row for row in rows)
    counting = counted_from(rows, answered)
    return [choices(row, answered, counting).letter for row in rows]


@pytest.mark.parametrize("key", ["correct_answer", "answer", "gt_answer"])
@pytest.mark.parametrize("kind", [int, float, str])
def test_a_zero_or_a_full_count_tells_what_numbers_count_from(key: str, kind: type) -> None:
    assert letters({key: kind(0)}, {key: kind(1)}, {key: kind(2)}) == ["A", "B", "C"]
    assert letters({key: 3}, {key: 1}, {key: 2}) == ["C", "A", "B"]


def test_words_beside_a_number_tell_what_it_counts_from() -> None:
    assert letters({"correct_answer": 1, "answer": "Brie"}, {"correct_answer": 2}) == ["B", "C"]
    assert letters({"correct_answer": 1, "answer": "Cheddar"}, {"correct_answer": 2}) == ["A", "B"]


def test_indices_count_from_zero_unless_they_cannot() -> None:
    for key in ("answer_index", "answer_idx", "answer_id"):
        assert letters({key: 1}, {key: "2"}, {key: 2.0}) == ["B", "C", "C"]
        assert letters({key: 1}, {key: 3}) == ["A", "C"]
        assert letters({key: "B"}) == ["B"]


def test_labels_in_the_question_are_what_numbers_mean() -> None:
    listed = {"question": "Which?\n1. Cheddar\n2. Brie\n3. Gouda", "options": None}
    assert letters(listed | {"answer": 2}, listed | {"answer": "1"}) == ["B", "A"]
    assert letters({"options": {"7": "Cheddar", "8": "Brie"}, "answer": 8}) == ["B"]


OPEN = {"question": "How many?", "options": None}
NUMBERED = {"question": "Which?\n1. Cheddar\n2. Brie", "options": None}


@pytest.mark.parametrize("zero", [0, "0", 0.0])
@pytest.mark.parametrize("key", ["correct_answer", "answer", "gt_answer"])
def test_answers_to_open_questions_tell_nothing_of_options(key: str, zero: object) -> None:
    assert letters(OPEN | {key: zero}, NUMBERED | {key: 1}, NUMBERED | {key: "2"}) == [None, "A", "B"]
    assert letters(OPEN | {key: zero}, {"options": ["1", "2", "3", "4"], key: "3"}) == [None, "C"]
    assert letters({"ques_type": "open_ended", key: zero}, {key: 1}, {key: 3}) == [None, "A", "C"]
    assert letters({"ques_type": "open-ended", key: 2}, {key: 0}, {key: 1}) == [None, "A", "B"]


def test_numbered_questions_and_lists_of_options_count_apart() -> None:
    assert letters(NUMBERED | {"answer": 2}, {"answer": 0}, {"answer": 2}) == ["B", "A", "C"]
    assert letters({"answer": 0}, NUMBERED | {"answer": 1}) == ["A", "A"]
    assert letters(NUMBERED | {"answer_index": 1}, {"answer_index": 1}) == ["B", "B"]
    with pytest.raises(ValueError, match="answer is 0, and the question numbers its options from 1: give the letter"):
        letters(NUMBERED | {"answer": 0})


def test_options_that_are_numbers_are_meant_by_their_words() -> None:
    assert letters({"options": ["3", "4", "5"], "answer": 4}, {"options": ["one", "two", "three"], "answer": "2"}) == ["B", "B"]
    assert letters({"options": ["2 stars", "3 stars", "4 stars", "5 stars"], "answer": 3}) == ["B"]


@pytest.mark.parametrize("row", [{"correct_answer": 1}, {"answer": "2"}, {"gt_answer": 2.0}])
def test_a_number_that_could_count_from_either_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match="whether that counts the options from 0 or from 1: give the letter, or a number from 0 as answer_index"
    ):
        letters(row)


def test_records_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="correct_answer counts the options from 0 in one record, and from 1 in another"):
        letters({"correct_answer": 0}, {"correct_answer": 3})


def test_no_number_of_an_option() -> None:
    assert letters({"answer": 7}, {"answer_index": -1, "answer": "none of them"}, {"answer": True}) == [None] * 3
    assert letters({"answer": 1, "correct_answer": "B"}, answered=True) == ["B"]
    assert choices({"question": "Who?", "correct_answer": "Ana"}, False, {}).reference == "Ana"


def test_a_single_option_is_refused() -> None:
    with pytest.raises(ValueError, match="it has a single option, 'red or blue': give a list"):
        letters({"options": "red or blue", "answer": "red"})


def test_names_that_look_like_options_are_none() -> None:
    """Fewer than two, or a series that begins nowhere."""
    assert (
        letters(OPEN | {"a": "x", "answer": "y"}, OPEN | {"b": "x", "c": "y", "answer": "y"}, OPEN | {"option_3": 1, "answer": 1})
        == [None] * 3
    )


@pytest.mark.parametrize("options", [["True", "False"], ["yes", "no"], ["Yes.", "No."]])
def test_a_truth_names_the_option_of_its_word(options: list[str]) -> None:
    assert letters({"options": options, "answer": True}, {"options": options, "answer": False}) == ["A", "B"]
    assert choices(OPEN | {"answer": False}, False, {}).reference == "no"


def test_an_index_is_no_option_that_is_a_number() -> None:
    numbers = {"options": ["0", "2", "3"]}
    assert letters(numbers | {"answer_index": 3}, numbers | {"answer_index": 1}) == ["C", "A"]


FIELDS = {"question": "Which?", "options": None}


@pytest.mark.parametrize(
    ("row", "letter"),
    [
        ({"options": None, "option": CHEESES, "answer": "Brie"}, "B"),
        (FIELDS | {"option_2": "Brie", "option_1": "Cheddar", "answer": "Brie"}, "B"),
        (FIELDS | {f"option{number}": f"Cheese {number}" for number in reversed(range(1, 12))} | {"answer": "Cheese 11"}, "K"),
        (NUMBERED | {"answer": "Option 2"}, "B"),
        ({"options": ["Brie", "None"], "answer": "Brie"}, "A"),
        ({"answer": ["Brie"]}, "B"),
        ({"options": ["True", "False"], "answer": True}, "A"),
        ({"options": ["Yes", "No"], "answer": False}, "B"),
        ({"options": ["3 stars", "3"], "answer": "3"}, "B"),
        ({"options": ["3 stars", "2 stars"], "answer": "2"}, "B"),
        ({"options": ["1", "0.5"], "answer": 0.5}, "B"),
    ],
)
def test_the_right_option_in_words(row: dict[str, Any], letter: str) -> None:
    assert letters(row) == [letter]


def test_what_a_model_answered_is_not_the_right_answer() -> None:
    assert letters({"answer": "Gouda", "correct_answer": "Brie"}, answered=True) == ["B"]
    with pytest.raises(KeyError, match="correct_answer"):
        letters({"answer": "Gouda"}, answered=True)
