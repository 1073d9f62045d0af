"""ground-event: locates an event in a time span by showing its frames to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sage_cli.model.base import Frames, Message, Prompt, Text
from sage_cli.timecode import format_clock, repair
from sage_cli.tools.base import EvidenceSpan, Outcome, ToolError, ToolNotice, ToolRun, WindowArguments, WindowTool
from sage_cli.tools.reply import WRAP, json_object
from sage_cli.tools.schema import NULL, Schema, clock, constant, either, record, text
from sage_cli.tools.workspace import Workspace
from sage_cli.video import Frame

_EVENT_LENGTH: Final = 300
_REPLY_TOKENS: Final = 256
SHORTEST_S: Final = 1.0  # models give times in whole seconds


class NoTimesError(ToolError):
    """The model's reply contains no usable times."""


class GroundEventArguments(WindowArguments):
    event: str


class GroundEvent(WindowTool[GroundEventArguments]):
    name = "ground-event"
    title = "Looked for an event"
    looks = True
    arguments = GroundEventArguments

    def schema(self, workspace: Workspace) -> Schema:
        when = clock(workspace.start, workspace.end)
        return record(video_path=constant(workspace.video_path), event=text(_EVENT_LENGTH), timestamp_start=when, timestamp_end=when)

    def run(self, arguments: GroundEventArguments, workspace: Workspace) -> ToolRun:
        start, end, notes = workspace.window(arguments)
        yield from map(ToolNotice, notes)
        begin_text, end_text = format_clock(start), format_clock(end)
        question = workspace.prompts.render("visual_temporal_grounding", event=arguments.event, begin=begin_text, end=end_text)

        def build(frames: Sequence[Frame]) -> Prompt:
            return workspace.question(Frames(tuple(frames)), Text(question))

        # The reply repeats the event. A limit at which it is wound down before the times are chosen would choose them.
        limit = _REPLY_TOKENS + 2 * workspace.model.count_tokens([Message("assistant", (Text(arguments.event),))])
        prompt = yield from workspace.show_clip(start, end, build, limit)
        when = clock(start, end)
        if workspace.prompts.style.clips_from_zero and start:  # trained models count from the start of the clip that they see
            when = either(when, clock(0.0, end - start))
        found = either(record(start=when, end=when), record(start=NULL, end=NULL))
        schema = record(name=constant(arguments.event), timestamps=found)
        reply = yield from workspace.ask(prompt, max_tokens=limit, schema=schema, wrap=WRAP)
        span = _span(reply.text, start, end, workspace)
        first, last = map(format_clock, span) if span else (None, None)
        result = workspace.noted({"name": arguments.event, "timestamps": {"start": first, "end": last}}, notes)
        if span is None:
            return Outcome(result, f"not found in {begin_text}-{end_text}")
        return Outcome(result, f"found at {first}-{last}", (EvidenceSpan(*_widened(*span, start, end), "event grounded"),))


def _widened(start: float, end: float, first: float, last: float) -> tuple[float, float]:
    """A span that is not too short to be seen or cut, within the examined one."""
    end = min(max(end, start + SHORTEST_S), last)
    return max(min(start, end - SHORTEST_S), first), end


def _span(reply: str, start: float, end: float, workspace: Workspace) -> tuple[float, float] | None:
    """The event's span according to the reply, in seconds of the video; ``None`` if not found, or found outside the examined span.

    Raises:
        NoTimesError: the reply contains no usable times.
    """
    try:
        found_in = json_object(reply, ("timestamps", "start"))
        timestamps = found_in.get("timestamps", found_in) or {}
        first, last = timestamps.get("start"), timestamps.get("end")
        if first is None or last is None:
            return None
        found = sorted(repair(time, workspace.video.duration, fix_units=workspace.prompts.style.fix_units) for time in (first, last))
    except (ValueError, TypeError, AttributeError) as error:
        raise NoTimesError("the model gave no times that can be read") from error
    # A time before the span was counted from the span's start. (Clock times are whole seconds, rounded down.)
    if found[0] < int(start):
        found = [start + time for time in found]
    if found[0] > end:
        return None
    return max(found[0], start), max(min(found[1], end), start)
