from __future__ import annotations

import pytest

from sage_cli.agent.conversation import in_conversation


@pytest.mark.parametrize(("letter", "kept"), [("a", 3), ("他", 1)])
def test_the_newest_turns_that_fit_an_eighth_of_the_prompt_come_first(letter: str, kept: int) -> None:
    earlier = [(f"{number}", letter * 100) for number in range(9)]
    question = in_conversation("Why?", earlier, room=1100)
    assert question.count("Question: ") == kept
    assert "Question: 8" in question
    assert question.endswith("Why?")
