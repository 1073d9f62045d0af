"""Results for programs: every event as it happens, or one object a question. Both are documented in ``docs/events.md``."""

from __future__ import annotations

from typing import Any

from sage_cli.agent.events import (
    Answer,
    Event,
    FramesSampled,
    NoAnswer,
    Notice,
    RunStarted,
    ToolCalled,
    ToolFinished,
    WebRequested,
    Working,
    as_record,
)
from sage_cli.cli import console


class Jsonl:
    """One event a line, flushed as it happens; all but progress."""

    def show(self, event: Event) -> None:
        if not isinstance(event, Working):
            console.write(console.dumps(as_record(event)))


class Json:
    """One object a question, when its run is over, gathered from the events."""

    def __init__(self) -> None:
        self._run: dict[str, Any] = {}

    def show(self, event: Event) -> None:
        record = as_record(event)
        del record["type"]
        match event:
            case RunStarted():
                del record["elapsed"]
                self._run = {"answer": None, "reason": None, **record, "frames": [], "tool_calls": [], "web_requests": [], "notices": []}
            case FramesSampled():
                self._run["frames"] = record["times"]
            case ToolCalled():
                self._run["tool_calls"].append(record)
            case ToolFinished():
                self._run["tool_calls"][-1].update(record)
            case WebRequested():
                self._run["web_requests"].append(record)
            case Notice(text=text):
                self._run["notices"].append(text)
            case Answer() | NoAnswer():
                console.write(console.dumps({"question": event.question, **self._run, **record}))
