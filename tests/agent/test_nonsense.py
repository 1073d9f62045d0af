from __future__ import annotations

import json
import random
import re

import pytest

from sage_cli.agent.nonsense import denies, gives_up, in_circles, is_nonsense, without_repetition
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


DENIALS = (
    "The frames do not show who it is.",
    "It isn\u2019t mentioned.",
    "There is no information about the price in the video.",
    "The exact content is not provided in the frames.",
    "Unclear.",
    "I cannot see it.",
    "The colour of the dog is not mentioned.",
    "The video does not say.",
    "This video never mentions the price.",
    "It cannot be determined from the frames.",
    "The oven temperature is not given in the transcript.",
    "Nothing in the results answers the question.",
    "Neither the frames nor the transcript say it.",
    "Not specified.",
    "The name of the man is unknown.",
    "It is not clear from the video who wins.",
    "The transcript does not explicitly state how long it takes.",
    "There is no mention of a dog.",
    "Nobody mentions the price.",
    "She doesn't mention how long it takes.",
    "The speaker does not say what it costs.",
    "I'm not able to answer this question.",
    "There isn't any mention of a cat.",
    "No information is given about it.",
    "There is not enough information to tell.",
    "It is impossible to tell what he says.",
    "I am unable to determine what is being said.",
    "The provided frames don't contain this information.",
    "No answer to the question was found.",
    "Nothing is said about the weather.",
    "His words are not audible.",
    "Could not produce an answer to the question.",
    "The brand can't be seen.",
    "The question can\u2019t be answered with the frames alone.",
    "Sorry, I can't tell.",
    "Cannot determine.",
    "The brand could not be identified.",
    "The claim could not be verified with the provided frames.",
    "This cannot be answered from the frames alone.",
    "The frames alone cannot answer this; the speech must be heard.",
    "The images alone do not indicate what she says.",
    "The video fails to mention it.",
    "It's not clear from the video what he says.",
    "It is not clear.",
    "It's unclear.",
    "The name of the speaker is not given.",
    "The answer is not given.",
    "The speaker's name is never said.",
    "The speaker's name isn't said.",
    "The car isn't seen.",
    "The man does not state his name.",
    "It does not say.",
    "It doesn't show that.",
    "No price is mentioned.",
    "No speech is heard.",
    "No answer.",
    "No one mentions the price.",
    "Nobody says what it costs.",
    "There is no way to know.",
    "There is no data about it.",
    "I'm unable to determine this from the images.",
    "The text is not readable.",
)
ANSWERS = (
    "No.",
    "The man does not leave. He says goodbye.",
    "No parking",
    "Red",
    "He does not answer the phone; he lets it ring.",
    "No, no dog is shown.",
    "No, there is no dog in the video.",
    "She never says goodbye.",
    "He cannot see the car coming.",
    "They do not know the way.",
    "Nobody answers the phone.",
    "The door cannot be opened.",
    "He is not given a ticket.",
    "The sign says 'Not for sale'.",
    "An unknown planet",
    "The answer was no.",
    "He refuses to show his passport.",
    "The keys are not found, so they walk home.",
    "Because the shop does not provide bags.",
    "He said that nothing can stop them.",
    "The dog does not hear her.",
    "It is not a cat but a fox.",
    "She has no clear plan and asks for help.",
    "The teacher says that the test is not hard.",
    "There was no evidence against him.",
    "No data is lost.",
    "Without a word he shows her the letter.",
    "The lecturer says the data could not be verified.",
    "The treasure could not be found, so they went home.",
    "He could not see the road because of the fog.",
    "He can't swim.",
    "Nobody says a word during the dinner; they eat in silence.",
    "No one talks in the video; there is only music.",
    "The film never shows the monster's face until the end.",
    "There is no data on the USB stick.",
    "The man says there is no evidence for the theory.",
    "He says that no record was broken that day.",
    "He was not seen again after the storm.",
    "The other man does not say anything.",
    "You cannot find good bread here, he says.",
    "One can never know, she says.",
    "Neither of them.",
)


@pytest.mark.parametrize("answer", DENIALS)
def test_a_denial_says_that_the_evidence_does_not_hold_the_answer(answer: str) -> None:
    assert denies(answer)


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_denies_something_else_is_an_answer(answer: str) -> None:
    assert not denies(answer)


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
    assert [denies(text) for text in said] == [False, True]
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
