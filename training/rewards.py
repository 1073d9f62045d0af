"""Rewards of a trajectory, each a function of its own; sizes are settings (:class:`training.config.Rewards`), by default the paper's.

Where the paper's text and its code differ, the code counts (``rl_train/agent/rewards.py`` of ``allenai/SAGE``).
A trajectory's return is the sum of the rewards of its steps and of its end. Every step gets the same return.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.config import Rewards
from training.steps import Step, read_reply

_LOOK_KEYS: Final = {"video_context", "query_intent", "final_answer", "recommended_tools"}
_REASON_KEYS: Final = {"answerable", "final_answer", "recommended_tools"}
_TOOL_KEYS: Final = {"needed", "why_no_tool", "tool_calls"}
_VERDICT_KEYS: Final = {"verdict", "reasoning"}
_NO_ANSWER: Final = "could not produce an answer"


def form_reward(step: Step, rewards: Rewards) -> float:
    """For a reply with exactly the protocol's keys: its own, those of ``recommended_tools``, and those of ``answerable``. Nothing where it
    is no JSON object. Calls may have any keys: the paper's weights write ``rationing`` for ``rationale``."""
    value, _ = read_reply(step.reply)
    if value is None:
        return 0.0
    return rewards.form if _has_form(value, step.stage) else rewards.bad_form


def _has_form(value: Mapping[str, Any], stage: int) -> bool:
    parts = {"recommended_tools": _TOOL_KEYS} | ({"answerable": _VERDICT_KEYS} if stage == 2 else {})
    if set(value) != (_LOOK_KEYS if stage == 1 else _REASON_KEYS):
        return False
    return all(isinstance(value[key], dict) and set(value[key]) == keys for key, keys in parts.items())


def judged_reward(step: Step, rewards: Rewards) -> float:
    """For a call that the step judge finds reasonable, or does not."""
    if step.tool is None or step.reasonable is None:
        return 0.0
    return rewards.reasonable if step.reasonable else rewards.unreasonable


def repeat_reward(step: Step, rewards: Rewards) -> float:
    """For the same tool with the same arguments, growing with the square root of how many times it was repeated."""
    return rewards.repeated * math.sqrt(step.times - 1) if step.tool is not None else 0.0


def argument_reward(step: Step, rewards: Rewards) -> float:
    """For a call of no tool, or with arguments that the tool refuses."""
    return 0.0 if step.valid else rewards.invalid


def repair_reward(step: Step, rewards: Rewards) -> float:
    """For JSON that has to be repaired before it can be read."""
    return rewards.repaired if read_reply(step.reply)[1] else 0.0


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
    value, _ = read_reply(last.reply)
    if value is None or (last.stage == 2 and not isinstance(value.get("answerable"), dict)):
        return rewards.broken
    if answer is None or not isinstance(value.get("final_answer"), str) or _NO_ANSWER in answer.lower():
        return rewards.no_answer
    if not right:
        return rewards.wrong_after_tools if last.stage == 2 else rewards.wrong_at_once
    examined = {step.tool for step in steps} & {"extract-video-parts", "ground-event"}
    return rewards.right * (rewards.examined if examined else 1.0)


def reward_terms(
    steps: Sequence[Step],
    answer: str | None,
    right: bool,
    rewards: Rewards,
    *,
    most: int,
    found: tuple[float, float] | None = None,
    truth: tuple[float, float] | None = None,
) -> dict[str, float]:
    """All rewards of a trajectory by term; their sum is its return.

    Args:
        most: turns that it might have had.
        found, truth: the span that grounding found, and the true one where that is known.
    """
    return {
        **{name: sum(give(step, rewards) for step in steps) for name, give in STEP_REWARDS.items()},
        "final": final_reward(steps, answer, right, rewards),
        "brevity": brevity_reward(len(steps), most, rewards),
        "overlap": overlap_reward(found, truth, rewards),
    }


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
