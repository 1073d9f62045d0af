from __future__ import annotations

import json
import random

import pytest

from sage_cli.agent.nonsense import denies, in_circles, is_nonsense, without_repetition
from sage_cli.prompts import PACKS, Prompts

LIST = "\n".join(f"{number}. Frame {number} shows a {colour} car." for number, colour in enumerate(["red", "blue", "green", "white"] * 5))
MEDIA = json.dumps([f"f1/00:{second:02}.jpg" for second in range(40, 60)])


@pytest.mark.parametrize(
    "phrase", ["a", "no ", "No", "The man speaks. ", "one\n", "\u4e16\u754c", " and then he says that he will go home again soon,"]
)
def test_a_phrase_again_and_again_runs_in_circles(phrase: str) -> None:
    text = "The video shows a man. " + phrase * (200 // len(phrase) + 4)
    assert in_circles(text)
    assert in_circles(text[:-1])
    assert not in_circles(text + "But then he stops, and looks up.")
    assert not in_circles("The video shows a man. " + phrase * 3)


@pytest.mark.parametrize("text", ["", "Red.", LIST, MEDIA, "tra la la, tra la la, tra la la! And so on.", "0" * 60])
def test_what_has_much_to_say_does_not(text: str) -> None:
    assert not in_circles(text)


def test_random_text_does_not() -> None:
    rng = random.Random(1)
    for letters in ("ab", "abc ", "abcdefghij "):
        assert not in_circles("".join(rng.choices(letters, k=5000)))


SAID = 'Reply with {"final_answer": "the answer, short and direct, if the frames are enough for it; otherwise null"}.'


@pytest.mark.parametrize("answer", ["]", "", "...", '", "', "The answer, short and direct", "no spa. " * 30])
def test_answers_that_say_nothing(answer: str) -> None:
    assert is_nonsense(answer, SAID)


@pytest.mark.parametrize(
    "answer", ["No.", "7", "D", "the answer", "\u4e16\u754c", "The frames are red, and enough for it.", "It is a short and direct way."]
)
def test_answers_that_say_something(answer: str) -> None:
    assert not is_nonsense(answer, SAID)


@pytest.mark.parametrize(
    ("answer", "denied"),
    [
        ("The frames do not show who it is.", True),
        ("It isn\u2019t mentioned.", True),
        ("There is no information about the price in the video.", True),
        ("The exact content is not provided in the frames.", True),
        ("Unclear.", True),
        ("I cannot see it.", True),
        ("No.", False),
        ("The man does not leave. He says goodbye.", False),
        ("No parking", False),
        ("Red", False),
    ],
)
def test_denials(answer: str, denied: bool) -> None:
    assert denies(answer) == denied


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    "answer",
    [
        "The video does not say it.",
        "It is not said in the video.",
        "The transcript does not mention it.",
        "This is not mentioned in the video.",
        "The frames do not show it.",
        "It cannot be seen.",
        "Nothing in the results answers the question.",
    ],
)
def test_no_prompt_holds_an_answer_that_denies_something(pack: str, answer: str) -> None:
    assert not is_nonsense(answer, Prompts(pack).instructions)


def test_an_answer_ends_at_its_first_repeated_sentence() -> None:
    first = "It was closed because of the wind."
    again = " The transcript shows that the wind was strong on Monday. The market is closed because of the wind."
    assert without_repetition(first + again * 6 + " The fish}") == first + again
    assert without_repetition("No. No. No. No.") == "No."


@pytest.mark.parametrize("answer", ["", "Red", "Red.", "He says: one. She says: two. He says: one.", LIST])
def test_other_answers_stay_as_they_are(answer: str) -> None:
    assert without_repetition(answer) == answer
