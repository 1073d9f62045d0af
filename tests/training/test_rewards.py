"""Every clause of the reward, on trajectories worked by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from sage_cli.agent.events import Span, StepStarted, ToolCalled, ToolFinished
from sage_cli.model.base import Usage
from training.config import Rewards
from training.rewards import (
    STEP_REWARDS,
    argument_reward,
    brevity_reward,
    final_reward,
    form_reward,
    judged_reward,
    overlap_reward,
    repair_reward,
    repeat_reward,
)
from training.steps import Step, read_steps

PAPER = Rewards()
NO_TOOLS: dict[str, Any] = {"needed": False, "why_no_tool": None, "tool_calls": []}


def tools(name: str) -> dict[str, Any]:
    return {"needed": True, "why_no_tool": None, "tool_calls": [{"rationale": "r", "name": name, "arguments": {}}]}


def look(answer: str | None, recommended: object = NO_TOOLS, **more: Any) -> str:
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
        (look(None, {**tools("x"), "tool_calls": [{"rationing": "r", "name": "x", "arguments": {}}]}), 1, 0.05),  # keys of calls are free
        (look("red", []), 1, -0.1),
        (reason("red", answerable={"verdict": True}), 2, -0.1),
        (look("red").replace('"final_answer"', '"final_answer":'), 1, 0.05),  # repaired
        ("<json>[1]</json>", 1, 0.0),  # no object: neither
        ("The star is red.", 1, 0.0),
    ],
)
def test_form(reply: str, stage: Any, reward: float) -> None:
    assert form_reward(Step(reply, stage), PAPER) == reward


@pytest.mark.parametrize(("reasonable", "reward"), [(True, 0.1), (False, -0.1), (None, 0.0)])
def test_the_step_judge(reasonable: bool | None, reward: float) -> None:
    assert judged_reward(called(look(None), 1, "analyze", reasonable=reasonable), PAPER) == reward


def test_the_step_judge_says_nothing_of_steps_without_a_call() -> None:
    assert judged_reward(Step(look("red"), 1, reasonable=False), PAPER) == 0


@pytest.mark.parametrize(("times", "reward"), [(1, 0.0), (2, -0.05), (3, -0.05 * math.sqrt(2)), (5, -0.1)])
def test_the_same_call_again(times: int, reward: float) -> None:
    assert repeat_reward(called(reason(None), 2, "analyze", times=times), PAPER) == pytest.approx(reward)


def test_invalid_arguments() -> None:
    assert argument_reward(called(reason(None), 2, "analyze", valid=False), PAPER) == -0.1
    assert argument_reward(called(reason(None), 2, "analyze"), PAPER) == 0


def test_repaired_json() -> None:
    assert repair_reward(Step('<json>{"final_answer": "red",}</json>', 1), PAPER) == -0.05
    assert repair_reward(Step(look("red"), 1), PAPER) == 0
    assert repair_reward(Step("The star is red.", 1), PAPER) == 0  # there is nothing to repair


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
        ([called(look(None), 1, "ground-event", valid=False), Step(reason("red"), 2)], "red", True, 1.25),  # every call counts
        ([called(look(None), 1, "analyze", valid=False), Step(reason("red"), 2)], "red", False, -0.5),
        ([HEARD, Step(reason(None), 2)], None, False, -0.5),  # no answer
        ([Step(look("x"), 1)], "Could not produce an answer.", True, -0.5),
        ([Step("<json>[]</json>", 1)], None, False, -2.0),  # not an object
        ([Step("The star is red.", 1)], None, False, -2.0),
        ([Step(look(None, final_answer=["red"]), 1)], "red", True, -0.5),  # not a string
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
    assert terms == pytest.approx({"form": 0.25, "judge": 0.2, "repeated": -0.05, "invalid": 0, "repaired": 0})
    assert sum(terms.values()) + final_reward(steps, "The star is red.", True, PAPER) == pytest.approx(1.65)


# ---- the steps of a run --------------------------------------------------------------------------------------------


def started(step: int) -> StepStarted:
    return StepStarted(0.0, step)


def ran(step: int, tool: str, *, ok: bool = True, span: Span | None = None, repeated: bool = False) -> list[object]:
    return [ToolCalled(0.0, step, tool, {"query": "q"}, "", span), ToolFinished(0.0, step, tool, ok, repeated, {}, "", span, Usage())]


def test_a_call_belongs_to_the_reply_that_made_it() -> None:
    """The first reply could not be read, and was asked for again."""
    replies = [("look", "garbage"), ("look", look(None, tools("perform_reasoning"))), ("reason", reason("red"))]
    steps, answer, _ = read_steps(replies, [started(0), started(0), *ran(0, "analyze"), started(1)])
    assert [(step.tool, step.stage) for step in steps] == [(None, 1), ("analyze", 1), (None, 2)]
    assert answer is None


def test_what_makes_a_call_invalid() -> None:
    """An unknown tool, or arguments that it refuses; not what happens to it later."""
    wants = reason(None, tools("x"))
    replies = [("look", look(None, tools("unknown"))), ("reason", wants), ("reason", wants), ("reason", wants), ("reason", wants)]
    events = [
        *(started(0), started(1), *ran(1, "analyze", ok=False)),
        *(started(2), *ran(2, "transcribe-speech", ok=False, span=Span(0, 1))),
        *(started(3), *ran(3, "analyze", repeated=True), started(4)),  # the last step makes no call any more
    ]
    steps, _, _ = read_steps(replies, events)
    assert [step.valid for step in steps] == [False, False, True, True, True]
    assert [step.times for step in steps] == [1, 1, 1, 2, 1]


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
