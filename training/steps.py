"""The steps of a run: every reply of the agent, and what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sage_cli.agent.events import Answer, StepStarted, ToolCalled, ToolFinished
from sage_cli.timecode import parse
from sage_cli.tools.reply import json_object


@dataclass(frozen=True, slots=True)
class Step:
    """One reply of the agent and what came of it.

    Attributes:
        reply: as the model wrote it.
        stage: 1 for the first look, 2 for the reasoner.
        tool: paper name of the tool that was called; ``None``: none was.
        arguments, result: of the call.
        valid: the call could be made: there is such a tool, and it takes the arguments.
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


def read_reply(reply: str) -> tuple[dict[str, Any] | None, bool]:
    """The JSON object of a reply, and whether it had to be repaired; ``None`` where there is none."""
    try:
        value: object = json.loads(reply.split("<json>")[-1].split("</json>")[0])
    except (ValueError, RecursionError):
        try:
            return json_object(reply), True
        except ValueError:
            return None, False
    return (value if isinstance(value, dict) else None), False


def read_steps(replies: Sequence[tuple[str, str]], events: Sequence[object]) -> tuple[list[Step], str | None, tuple[float, float] | None]:
    """The steps of a run, with the answer, and the last span that grounding found.

    Args:
        replies: the agent's own ones, by role, in order: one for each request, of which a step may take two.
        events: of the run.
    """
    numbers = [event.step for event in events if isinstance(event, StepStarted)]
    last = {number: place for place, number in enumerate(numbers)}  # the reply that the agent went on with
    called = {last[event.step]: event for event in events if isinstance(event, ToolCalled)}
    finished = {last[event.step]: event for event in events if isinstance(event, ToolFinished)}
    answer = next((event.answer for event in events if isinstance(event, Answer)), None)
    spans = [_span(event.result) for event in finished.values() if event.tool == "ground-event" and event.ok]
    counts: Counter[str] = Counter()
    steps = []
    for place, ((role, reply), number) in enumerate(zip(replies, numbers, strict=True)):
        stage: Literal[1, 2] = 1 if role == "look" else 2
        if place not in called:
            went_on = place == last[number] and number != numbers[-1]
            steps.append(Step(reply, stage, valid=not (went_on and _wants_tool(reply))))
            continue
        call, done = called[place], finished.get(place)
        key = json.dumps([call.tool, call.arguments], sort_keys=True)
        counts[key] += 1
        # A tool that takes the arguments knows the span that they mean; what goes wrong after that is not the call's fault.
        valid = done is not None and (done.ok or done.span is not None)
        result = done.result if done is not None else None
        steps.append(Step(reply, stage, call.tool, call.arguments, result, valid=valid, times=counts[key]))
    return steps, answer, spans[-1] if spans else None


def _wants_tool(reply: str) -> bool:
    """Whether a reply asks for a call."""
    value, _ = read_reply(reply)
    tools = value.get("recommended_tools") if value else None
    return isinstance(tools, dict) and tools.get("needed") is True and bool(tools.get("tool_calls"))


def _span(result: dict[str, Any]) -> tuple[float, float] | None:
    times = result.get("timestamps") or {}
    if times.get("start") is None or times.get("end") is None:
        return None
    return parse(times["start"]), parse(times["end"])
