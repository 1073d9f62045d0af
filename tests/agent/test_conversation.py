from __future__ import annotations

from itertools import pairwise

import pytest

from sage_cli.agent.conversation import in_conversation, newest


@pytest.mark.parametrize(("letter", "kept"), [("a", 3), ("他", 1)])
def test_the_newest_turns_that_fit_an_eighth_of_the_prompt_come_first(letter: str, kept: int) -> None:
    earlier = [(f"{number}", letter * 100) for number in range(9)]
    turns = newest(earlier, room=1100)
    assert turns == earlier[-kept:]
    question = in_conversation("Why?", turns)
    assert question.count("Question: ") == kept
    assert question.endswith("Why?")


def test_most_prompts_of_a_long_conversation_begin_as_the_one_before() -> None:
    earlier = [(f"What is said at {number}?", "Nobody knows." * (number % 3 + 1)) for number in range(200)]
    told = ["".join(map(str, newest(earlier[:count], room=4000))) for count in range(1, 201)]
    assert sum(after.startswith(before) for before, after in pairwise(told)) > 180
    assert min(map(len, told[50:])) > max(map(len, told)) / 3


@pytest.mark.parametrize("letter", ["a", "他"])
@pytest.mark.parametrize(("asked", "answered"), [(5, 5000), (5000, 5), (5000, 5000)])
def test_of_a_turn_that_is_too_long_there_is_the_beginning(letter: str, asked: int, answered: int) -> None:
    earlier = [("Who?", "She."), (letter * asked, letter * answered)]
    ((question, answer),) = newest(earlier, room=1100)
    assert len(in_conversation("", [(question, answer)]).encode()) < 1100 / 8 * 3 + 100
    for whole, kept in (letter * asked, question), (letter * answered, answer):
        assert kept.removesuffix(" ...") == whole[: len(kept.removesuffix(" ..."))]
        assert len(kept) > 4
