"""Options in every layout, and answers in every wording: which option is named."""

from __future__ import annotations

import pytest

from sage_cli.bench.options import in_text, letter, named

OPTIONS = ("cat", "dog", "blue dog", "18", "B vitamins", "Two")


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which?\n Answer the question based on the following options: \n (A) red\n (B) blue", ["red", "blue"]),
        ("Which?\n Answer the question based on the following options: (A) red\n (B) blue", ["red", "blue"]),
        ("Which?\n(A) A) red\n(B) B) blue", ["red", "blue"]),
        ("Which?\n(A) A. red\n(B) B. blue", ["red", "blue"]),
        ("Which?\n(A) (A) red\n(B) blue", ["red", "blue"]),
        ("Which?\n(A) A. Lincoln\n(B) George", ["A. Lincoln", "George"]),
        ("Which? (A) red (B) blue", ["red", "blue"]),
        ("Which?\n(A)red\n(B)blue", ["red", "blue"]),
        ("Which?\nA. red\nB. blue\n\nAnswer with a letter.", ["red", "blue"]),
        ("Options: A. red\nB. blue", ["red", "blue"]),
        ("Which?\r\nA) red\r\nB) blue\r\n", ["red", "blue"]),
        ("Pick one: a) red b) blue", ["red", "blue"]),
        ("Which?\n- A: red\n- B: blue", ["red", "blue"]),
        ("Which?\n**(A)** red\n**(B)** blue", ["red", "blue"]),
        ("Which?\n[A] red\n[B] blue", ["red", "blue"]),
        ("Which?\n(A) the first,\n on two lines\n(B) blue", ["the first, on two lines", "blue"]),
        ("Which?\n(A) red\n(C) blue", []),
        ("Say (a) who and (b) why.", []),
        ("What is vitamin A. And B. for?", []),
        ("Why?", []),
    ],
)
def test_options_in_a_question(question: str, options: list[str]) -> None:
    assert in_text(question) == (options, False)


def test_numbered_options() -> None:
    assert in_text("Which?\n1. red\n2. blue") == (["red", "blue"], True)
    assert named("2", ["red", "blue"], numbered=True) == 1
    assert named("(2) blue", ["red", "blue"], numbered=True) == 1
    assert named("2", ["two red", "two blue"]) is None


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("**B**", "B"),
        ("[B]", "B"),
        ("b) dog", "B"),
        ("B - dog", "B"),
        ("B, because it barks", "B"),
        ("**(B) dog**", "B"),
        ("The answer is a dog.", "B"),
        ("The answer is A dog", "B"),
        ("The answer is A.", "A"),
        ("The answer is A because it purrs", "A"),
        ("Answer: b", "B"),
        ("option b", "B"),
        ("The answer is b", "B"),
        ("The answer is (B) dog, not a cat.", "B"),
        ("The correct choice is 'B'", "B"),
        ("Therefore, the correct option is (B).", "B"),
        ("is NOT listed is (B) dog. The others: cat, 18.", "B"),
        (r"\\boxed{B}", "B"),
        ("two", "F"),
        ("The number is 2.", "F"),
        ("2", "F"),
        ("The answer is E vitamins, I mean B vitamins", "E"),
        ("I answer a question", None),
        ("(A) or (B)", None),
        ("A, B", None),
        ("I", None),
        ("G", None),
        ("I do not know", None),
    ],
)
def test_the_option_that_an_answer_names(answer: str, option: str | None) -> None:
    place = named(answer, OPTIONS)
    assert (None if place is None else letter(place)) == option
