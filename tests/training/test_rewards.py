"""Every clause of the reward, on trajectories worked by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from training.config import Rewards
from training.rewards import (
    STEP_REWARDS,
    Step,
    argument_reward,
    brevity_reward,
    final_reward,
    form_reward,
    judged_reward,
    overlap_reward,
    repair_reward,
    repeat_reward,
)

PAPER = Rewards()
NO_TOOLS: dict[str, Any] = {"needed": False, "why_no_tool": None, "tool_calls": []}


def tools(name: str) -> dict[str, Any]:
    return {"needed": True, "why_no_tool": None, "tool_calls": [{"rationale": "r", "name": name, "arguments": {}}]}


def look(answer: str | None, recommended: dict[str, Any] = NO_TOOLS, **more: Any) -> str:
    value = {"video_context": "c", "query_intent": "i", "final_answer": answer, "recommended_tools": recommended, **more}
    return f"<json>\n{json.dumps(value)}\n</json>"


def reason(answer: str | None, recommended: dict[str, Any] = NO_TOOLS, **more: Any) -> str:
    value = {"answerable": {"verdict": True, "reasoning": "r"}, "final_answer": answer, "recommended_tools": recommended, **more}
    return f"<json>\n{json.dumps(value)}\n</json>"


def called(reply: str, stage: Any, tool: str, **more: Any) -> Step:
    return Step(reply, stage, tool, {}, {}, **more)


# ---- steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "stage", "reward"),
    [
        (look("red"), 1, 0.05),
        (reason("red"), 2, 0.05),
        (look(None, tools("verbal_transcript")), 1, 0.05),
        (look("red", extra=1), 1, -0.1),  # a key too many
        (reason("red"), 1, -0.1),  # the keys of the other stage
        (look("red", {"needed": False, "tool_calls": []}), 1, -0.1),  # one too few, at the second level
        (look(None, {**tools("x"), "tool_calls": [{"name": "x", "arguments": {}}]}), 1, -0.1),  # at the third
        (reason("red", answerable={"verdict": True}), 2, -0.1),
        ("<json>[1]</json>", 1, -0.1),
        ('<json>{"video_context": </json>', 1, 0.0),  # cannot be parsed: neither
    ],
)
def test_form(reply: str, stage: Any, reward: float) -> None:
    assert form_reward(Step(reply, stage), PAPER) == reward


@pytest.mark.parametrize(("reasonable", "reward"), [(True, 0.1), (False, -0.1), (None, 0.0)])
def test_the_step_judge(reasonable: bool | None, reward: float) -> None:
    assert judged_reward(called(look(None), 1, "analyze", reasonable=reasonable), PAPER) == reward


def test_the_step_judge_says_nothing_of_steps_without_a_call() -> None:
    assert judged_reward(Step(look("red"), 1, reasonable=False), PAPER) == 0


@pytest.mark.parametrize(("times", "reward"), [(1, 0.0), (2, -0.05 * math.sqrt(2)), (4, -0.1)])
def test_the_same_call_again(times: int, reward: float) -> None:
    assert repeat_reward(called(reason(None), 2, "analyze", times=times), PAPER) == pytest.approx(reward)


def test_invalid_arguments() -> None:
    assert argument_reward(called(reason(None), 2, "analyze", valid=False), PAPER) == -0.1
    assert argument_reward(called(reason(None), 2, "analyze"), PAPER) == 0


def test_repaired_json() -> None:
    assert repair_reward(Step('<json>{"final_answer": "red",}</json>', 1), PAPER) == -0.05
    assert repair_reward(Step(look("red"), 1), PAPER) == 0


# ---- the end -------------------------------------------------------------------------------------------------------

HEARD = called(look(None, tools("verbal_transcript")), 1, "transcribe-speech")
CUT = called(look(None, tools("extract_parts_from_timestamp")), 1, "extract-video-parts")
FOUND = called(look(None, tools("identify_timestamps_visually")), 1, "ground-event")


@pytest.mark.parametrize(
    ("steps", "answer", "right", "reward"),
    [
        ([Step(look("red"), 1)], "red", True, 1.0),
        ([Step(look("red"), 1)], "red", False, 0.0),  # wrong at first look
        ([HEARD, Step(reason("red"), 2)], "red", True, 1.0),
        ([HEARD, Step(reason("red"), 2)], "red", False, -0.5),
        ([CUT, Step(reason("red"), 2)], "red", True, 1.25),
        ([FOUND, Step(reason("red"), 2)], "red", True, 1.25),
        ([CUT, Step(reason("red"), 2)], "red", False, -0.5),
        ([called(look(None), 1, "ground-event", valid=False), Step(reason("red"), 2)], "red", True, 1.0),  # nothing was grounded
        ([HEARD, Step(reason(None), 2)], None, False, -0.5),  # no answer
        ([Step(look("x"), 1)], "Could not produce an answer.", True, -0.5),
        ([Step("<json>[]</json>", 1)], None, False, -2.0),  # not an object
        ([HEARD, Step('<json>{"final_answer": "red"}</json>', 2)], "red", True, -2.0),  # the second stage without `answerable`
    ],
)
def test_the_end(steps: list[Step], answer: str | None, right: bool, reward: float) -> None:
    assert final_reward(steps, answer, right, PAPER) == reward


def test_a_whole_trajectory() -> None:
    """The example of docs/training.md: listens, listens again, looks, and is right."""
    steps = [
        called(look(None, tools("verbal_transcript")), 1, "transcribe-speech", reasonable=True),
        called(reason(None, tools("verbal_transcript")), 2, "transcribe-speech", reasonable=False, times=2),
        called(reason(None, tools("extract_parts_from_timestamp")), 2, "extract-video-parts", reasonable=True),
        called(reason(None, tools("perform_reasoning")), 2, "analyze", reasonable=True),
        Step(reason("The star is red."), 2),
    ]
    terms = {name: sum(give(step, PAPER) for step in steps) for name, give in STEP_REWARDS.items()}
    assert terms == pytest.approx({"form": 0.25, "judge": 0.2, "repeated": -0.0707107, "invalid": 0, "repaired": 0})
    assert sum(terms.values()) + final_reward(steps, "The star is red.", True, PAPER) == pytest.approx(1.6292893)


# ---- beyond the paper ----------------------------------------------------------------------------------------------


def test_brevity_is_off_unless_asked_for() -> None:
    assert brevity_reward(3, 11, PAPER) == 0
    assert brevity_reward(3, 11, Rewards(per_turn_left=1.0)) == 8


@pytest.mark.parametrize(
    ("found", "truth", "reward"),
    [((10, 20), (10, 20), 0.5), ((10, 20), (15, 25), 0.5 / 3), ((0, 5), (10, 20), 0.0), (None, (10, 20), 0.0), ((10, 20), None, 0.0)],
)
def test_overlap(found: Any, truth: Any, reward: float) -> None:
    assert overlap_reward(found, truth, Rewards(overlap=0.5)) == pytest.approx(reward)
