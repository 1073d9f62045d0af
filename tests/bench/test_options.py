"""Options in every layout."""

from __future__ import annotations

import pytest

from sage_cli.bench.options import in_text, listed


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


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("A. red, B. blue, C. green", ["red", "blue", "green"]),
        ("(A) red; (B) blue", ["red", "blue"]),
        ("A: red / B: blue", ["red", "blue"]),
        ("A. Smith, J. won, B. Brown, K. lost", ["Smith, J. won", "Brown, K. lost"]),
        ("A. Smith, J. won\nB. Brown, K. lost", ["Smith, J. won", "Brown, K. lost"]),
        ("A. They meet at 5, B. is late\nB. no", ["They meet at 5, B. is late", "no"]),
        ("None of these, I. e. nothing", ["None of these, I. e. nothing"]),
        ("['red', 'blue']", ["red", "blue"]),
        ('["red", "blue"]', ["red", "blue"]),
        ("red\nblue", ["red", "blue"]),
    ],
)
def test_options_as_text(text: str, options: list[str]) -> None:
    assert listed(text)[0] == options
