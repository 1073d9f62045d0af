from __future__ import annotations

import json
import random
import re

import pytest

from sage_cli.agent.nonsense import gives_up, has_words, is_nonsense, without_repetition
from sage_cli.prompts import PACKS, Prompts
from sage_cli.text import in_circles

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


SAID = """Describe what the frames show.
Reply with one JSON object:

<json>
{"final_answer": "the answer, short and direct, if the frames are enough for it; otherwise null", "needed": true or false}
</json>

Example. The frames show a woman at a desk:
<json>
{"video_context": "A woman sits at a desk and speaks.", "final_answer": "The colour of the dog is not mentioned."}
</json>"""


@pytest.mark.parametrize(
    "answer",
    [
        "]",
        "",
        "...",
        '", "',
        ": null,",
        'er": null}',
        '{"final_answer": null, "needed": ',
        "The answer, short and direct, if the frames are enough for it; otherwise null",
        "Describe what the frames show",
        "no spa. " * 30,
    ],
)
def test_answers_that_say_nothing(answer: str) -> None:
    assert is_nonsense(answer, SAID)


@pytest.mark.parametrize(
    "answer",
    [
        "No.",
        "7",
        "D",
        "the answer",
        ": 7,",
        "true",
        "null and void",
        'She says "no": nobody may.',
        "\u4e16\u754c",
        "The frames are red, and enough for it.",
        "It is a short and direct way.",
        "A woman sits at a desk and speaks.",
        "A woman sits at a desk.",
        "The colour of the dog is not mentioned.",
        "The frames show a woman at a desk.",
    ],
)
def test_answers_that_say_something(answer: str) -> None:
    assert not is_nonsense(answer, SAID)


@pytest.mark.parametrize("text", ["", "...", "04:04:04:0", ": null,", ': true, "title": ', 'mary": "', r"\"summary\": [1, 2]"])
def test_numbers_and_scraps_of_json_are_no_words(text: str) -> None:
    assert not has_words(text)


@pytest.mark.parametrize("text", ["A", "\u4e16\u754c", 'A car: "null".', "In 1984 nothing is true.", '"title": A car'])
def test_words(text: str) -> None:
    assert has_words(text)


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ("Could not produce an answer to the question.", True),
        (" could not produce an answer", True),
        ("He could not produce a permit.", False),
    ],
)
def test_the_text_that_stands_for_no_answer(answer: str, given: bool) -> None:
    assert gives_up(answer) == given


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


def test_what_an_example_says_may_be_the_answer() -> None:
    """The prompt itself tells the model to write such a denial."""
    prompts = Prompts("general")
    examples = [json.loads(form) for form in re.findall(r"<json>\n(.*?)\n</json>", prompts.instructions) if "..." not in form]
    said = [text for example in examples if (text := example["final_answer"])]
    assert len(said) == 2
    assert not any(is_nonsense(text, prompts.instructions) for text in said)


LIKE = "The wind was strong on Monday."


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (f"{LIKE} {LIKE} {LIKE} {LIKE}", LIKE),
        (f"It was closed. {LIKE} {LIKE} {LIKE} The fish}}", f"It was closed. {LIKE}"),
        (f"{LIKE} The market was closed all day. " * 5 + "The wind was", f"{LIKE} The market was closed all day."),
        ("Red. " * 30, "Red."),
        ("We will all go home now.\n" * 9, "We will all go home now."),
        ("It is the fox. No. " + "It runs into the wood at night. " * 3, "It is the fox. No. It runs into the wood at night."),
    ],
)
def test_a_tail_that_repeats_itself_is_cut(answer: str, kept: str) -> None:
    assert without_repetition(answer) == kept


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Red",
        "Red.",
        "He says: one. She says: two. He says: one.",
        LIST,
        "In order:\n1. Red\n2. Blue\n3. Red\n4. Green\n5. Red\n6. Yellow",
        "1. Red\n2. Red\n3. Red\n4. Red",
        "Scores per round: 1. Draw. 2. Win. 3. Draw. 4. Loss. 5. Draw. 6. Win.",
        "Win. Draw. Win. Draw. Win. Draw.",
        "Red. Blue. Red. Blue. Red. Blue.",
        "2:1. 2:1. 2:1. 2:1.",
        "No. No. No. No.",
        f"{LIKE} {LIKE} {LIKE} Then it stopped.",
        f"{LIKE} {LIKE}",
        f"1. {LIKE}\n2. {LIKE}\n3. {LIKE}\n4. {LIKE}",
        "- He jumps over the wall.\n- He runs to the car.\n- He jumps over the wall.\n- He drives away.",
        "First he waves to her. Then she waves to him. Then he waves to her. Then they leave.",
        "00:10 A man walks in.\n00:20 A man walks in.\n00:30 A man walks in.",
    ],
)
def test_other_answers_stay_as_they_are(answer: str) -> None:
    assert without_repetition(answer) == answer


def test_a_long_answer_of_short_sentences_is_read_once() -> None:
    answer = "".join(f"{number}. " for number in range(100_000))
    assert without_repetition(answer) == answer
    assert without_repetition("a.b! " * 40_000) == "a.b!"
