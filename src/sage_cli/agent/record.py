"""A run as one object, gathered from its events: what ``--json`` prints, the log keeps and reports show (docs/events.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar

from pydantic import TypeAdapter

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
E = TypeVar("E", bound=Event)


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


def recalled(run: RunRecord) -> Iterator[Event]:
    """The events of an earlier run, as far as its object tells them, with ``recalled`` in the first."""
    yield _made(RunStarted, {**run, "elapsed": 0.0, "recalled": True})
    if run["frames"]:
        yield FramesSampled(0.0, tuple(run["frames"]), "cached")
    for call in run["tool_calls"]:
        yield _made(ToolCalled, call)
        if "ok" in call:  # the run may have ended within the call
            yield _made(ToolFinished, call)
    for request in run["web_requests"]:
        yield _made(WebRequested, request)
    for text in run["notices"]:
        yield Notice(0.0, text)
    yield _made(NoAnswer if run["answer"] is None else Answer, run)


def _made(kind: type[E], values: Mapping[str, Any]) -> E:
    made: E = TypeAdapter(kind).validate_python({name: values[name] for name in [one.name for one in fields(kind)] if name in values})
    return made
