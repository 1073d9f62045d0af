"""A run as one object, gathered from its events: what ``--json`` prints, the log keeps and reports show (docs/events.md)."""

from __future__ import annotations

from typing import Any, TypeAlias

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
    as_record,
)

RunRecord: TypeAlias = dict[str, Any]


class Recorder:
    """Takes the events of one question after another; gives the object of each when its last event has come."""

    def __init__(self) -> None:
        self._run: RunRecord = {}

    def feed(self, event: Event) -> RunRecord | None:
        """Take an event; the whole run with the last one, else ``None``."""
        record = as_record(event)
        del record["type"]
        match event:
            case RunStarted():
                del record["elapsed"]
                self._run = {
                    "answer": None,
                    "value": None,
                    "reason": None,
                    **record,
                    "frames": [],
                    "tool_calls": [],
                    "web_requests": [],
                    "notices": [],
                }
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
                return {"question": event.question, **self._run, **record}
        return None
