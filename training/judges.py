"""Who says whether an answer is right and whether a step was reasonable: the synthetic world's truth, a local model, or a server.

Answers are judged by ``sage bench``'s own judges. Step judges see what the paper's sees: the question, the calls so far with their
results, and the current call without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sage_cli.bench.items import Item
from sage_cli.bench.judges import exact, read_verdict
from sage_cli.model.base import ChatModel, Message, Reply, Text
from sage_cli.timecode import parse
from training.questions import Question
from training.rollouts import Rollout, Task
from training.steps import Step
from training.trajectories import needs_tools

_REPLY_TOKENS: Final = 512
_SLACK: Final = 1.5  # seconds; clock times in calls are whole

_TASK: Final = """\
An agent answers a question about a video with tools, one call at a time. Decide whether its current call is a reasonable next step: it
should bring information that the earlier results lack and that helps to answer the question. Penalize repetitive calls.

Question: {question}

Earlier calls and their results:
{earlier}

Current call:
{current}

Reply in this form:
Reasoning: <why>
Verdict: <True or False>
"""


def item(task: Task) -> Item:
    """A task's question as ``sage bench`` knows it."""
    return Item(0, "0", task.question.text, task.question.answer, task.name, None)


def right(rollout: Rollout) -> bool:
    """Whether a rollout's answer is right."""
    return rollout.answer is not None and bool(exact(item(rollout.task), rollout.answer).correct)


# ---- the synthetic world's truth -----------------------------------------------------------------------------------


def exact_step(task: Task, earlier: Sequence[Step], step: Step) -> bool:
    """By the truth of the synthetic world: a call is reasonable if the answer needs it, it was not made before, and it looks at the
    stretch of video that holds the evidence."""
    question = task.question
    if not step.valid or step.times > 1 or not needs_tools(task.world, question):
        return False
    used = [before.tool for before in earlier if before.tool is not None and before.valid]
    arguments = step.arguments or {}
    match step.tool:
        case "transcribe-speech":
            wanted = question.kind in ("speech", "cue", "none") and question.form != "when" and "transcribe-speech" not in used
            return wanted and _covers(arguments, question)
        case "ground-event":
            return question.form == "when" and _covers(arguments, question)
        case "extract-video-parts":
            after = question.form == "appears" or (question.kind == "cue" and "transcribe-speech" in used)
            return after and _meets(arguments, question)
        case "analyze":
            return question.kind in ("moment", "cue") and used[-1:] == ["extract-video-parts"] and bool(arguments.get("media_paths"))
    return False


def _window(arguments: Any) -> tuple[float, float]:
    first, last = parse(str(arguments["timestamp_start"])), parse(str(arguments["timestamp_end"]))
    return min(first, last), max(first, last)


def _covers(arguments: Any, question: Question) -> bool:
    """Whether a call's window holds all of the evidence."""
    start, end = _window(arguments)
    low, high = question.evidence if question.kind in ("speech", "cue", "ground") else (question.window or (0.0, 0.0))
    return start <= low + _SLACK and end >= high - _SLACK


def _meets(arguments: Any, question: Question) -> bool:
    """Whether half of a call's window or more lies within the evidence."""
    start, end = _window(arguments)
    inside = min(end, question.evidence[1]) - max(start, question.evidence[0])
    return inside >= 0.5 * (end - start) > 0


# ---- models --------------------------------------------------------------------------------------------------------


def step_task(question: str, earlier: Sequence[Step], step: Step) -> str:
    """What a judging model is asked about a step."""
    lines = [f"{before.tool} {before.arguments}: {before.result}" for before in earlier if before.tool is not None]
    current = f"{step.tool} {step.arguments}"
    return _TASK.format(question=question, earlier="\n".join(lines) or "none", current=current)


def verdict_of(reply: str) -> bool | None:
    """What a judging model's reply says; ``None`` where there is no verdict in it."""
    try:
        return read_verdict(reply).correct
    except ValueError:
        return None


def asker(model: ChatModel) -> Callable[[str], str]:
    """Asks a model, local or served, for a judgement."""

    def ask(task: str) -> str:
        prompt = [Message("user", (Text(task),))]
        return next(part.text for part in model.stream(prompt, max_tokens=_REPLY_TOKENS) if isinstance(part, Reply))

    return ask
