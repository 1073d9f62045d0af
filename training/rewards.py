"""Rewards of a trajectory, each a function of its own; sizes are settings (:class:`training.config.Rewards`), by default the paper's.

A trajectory's return is the sum of the rewards of its steps and of its end. Every step gets the same return.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from training.config import Rewards

_LOOK_KEYS: Final = {"video_context", "query_intent", "final_answer", "recommended_tools"}
_REASON_KEYS: Final = {"answerable", "final_answer", "recommended_tools"}
_TOOL_KEYS: Final = {"needed", "why_no_tool", "tool_calls"}
_CALL_KEYS: Final = {"rationale", "name", "arguments"}
_VERDICT_KEYS: Final = {"verdict", "reasoning"}
_NO_ANSWER: Final = "could not produce"


@dataclass(frozen=True, slots=True)
class Step:
    """One reply of the agent and what came of it.

    Attributes:
        reply: as the model wrote it.
        stage: 1 for the first look, 2 for the reasoner.
        tool: paper name of the tool that was called; ``None``: none was.
        arguments, result: of the call.
        valid: the arguments could be used.
        times: how many times this very call was made by now, this one included.
        reasonable: what the step judge says of the call; ``None``: nobody was asked.
    """

    reply: str
    stage: Literal[1, 2]
    tool: str | None = None
    arguments: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    valid: bool = True
    times: int = 1
    reasonable: bool | None = None


def body(reply: str) -> object:
    """The JSON value of a reply as it stands between its tags; ``None`` where it cannot be parsed without repairs."""
    inside = reply.split("<json>")[-1].split("</json>")[0]
    try:
        value: object = json.loads(inside)
    except ValueError:
        return None
    return value


def form_reward(step: Step, rewards: Rewards) -> float:
    """For a reply with exactly the protocol's keys at all three levels; nothing where it cannot be parsed."""
    value = body(step.reply)
    if value is None:
        return 0.0
    return rewards.form if _has_form(value, step.stage) else rewards.bad_form


def _has_form(value: object, stage: int) -> bool:
    if not isinstance(value, dict) or set(value) != (_LOOK_KEYS if stage == 1 else _REASON_KEYS):
        return False
    tools = value["recommended_tools"]
    if not isinstance(tools, dict) or set(tools) != _TOOL_KEYS or not isinstance(tools["tool_calls"], list):
        return False
    if stage == 2 and not (isinstance(value["answerable"], dict) and set(value["answerable"]) == _VERDICT_KEYS):
        return False
    return all(isinstance(call, dict) and set(call) == _CALL_KEYS for call in tools["tool_calls"])


def judged_reward(step: Step, rewards: Rewards) -> float:
    """For a call that the step judge finds reasonable, or does not."""
    if step.tool is None or step.reasonable is None:
        return 0.0
    return rewards.reasonable if step.reasonable else rewards.unreasonable


def repeat_reward(step: Step, rewards: Rewards) -> float:
    """For the same tool with the same arguments, growing with the square root of how many times."""
    return rewards.repeated * math.sqrt(step.times) if step.tool is not None and step.times > 1 else 0.0


def argument_reward(step: Step, rewards: Rewards) -> float:
    """For arguments that the tool refuses."""
    return 0.0 if step.valid else rewards.invalid


def repair_reward(step: Step, rewards: Rewards) -> float:
    """For JSON that has to be repaired before it can be read."""
    return rewards.repaired if body(step.reply) is None else 0.0


STEP_REWARDS: Final = {
    "form": form_reward,
    "judge": judged_reward,
    "repeated": repeat_reward,
    "invalid": argument_reward,
    "repaired": repair_reward,
}


def final_reward(steps: Sequence[Step], answer: str | None, right: bool, rewards: Rewards) -> float:
    """For how a trajectory ends.

    Args:
        answer: ``None`` where there is none.
        right: what the accuracy judge says of it.
    """
    last = steps[-1]
    value = body(last.reply)
    if value is not None and not _is_reply(value, last.stage):
        return rewards.broken
    if answer is None or _NO_ANSWER in answer.lower():
        return rewards.no_answer
    tools = {step.tool for step in steps if step.tool is not None and step.valid}
    if not right:
        return rewards.wrong_after_tools if last.stage == 2 and tools else rewards.wrong_at_once
    examined = tools & {"extract-video-parts", "ground-event"}
    return rewards.right * (rewards.examined if examined else 1.0)


def _is_reply(value: object, stage: int) -> bool:
    return isinstance(value, dict) and (stage == 1 or isinstance(value.get("answerable"), dict))


def brevity_reward(turns: int, most: int, rewards: Rewards) -> float:
    """For every turn that was not used. The reference has it, at a size that neither paper nor script sets; here it is off."""
    return rewards.per_turn_left * (most - turns)


def overlap_reward(found: tuple[float, float] | None, truth: tuple[float, float] | None, rewards: Rewards) -> float:
    """For grounding what is there: intersection over union of the span found and the true one, in seconds. Not in the paper."""
    if truth is None or found is None:
        return 0.0
    inside = min(found[1], truth[1]) - max(found[0], truth[0])
    whole = max(found[1], truth[1]) - min(found[0], truth[0])
    return rewards.overlap * max(0.0, inside) / whole if whole > 0 else 0.0
