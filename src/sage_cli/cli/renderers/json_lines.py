"""Results for programs: every event as it happens, or one object per question. Both are documented in ``docs/events.md``."""

from __future__ import annotations

from sage_cli.agent.events import Answer, Event, Working, as_record
from sage_cli.agent.record import Recorder
from sage_cli.cli import console


class Jsonl:
    """One event per line, flushed as it happens; without progress."""

    def show(self, event: Event) -> None:
        if not isinstance(event, Working):
            console.write(console.dumps(as_record(event)))


class Structured:
    """Answers that obey a JSON schema, one per line."""

    def show(self, event: Event) -> None:
        if isinstance(event, Answer):
            console.write(console.neutral_json(event.answer))


class Json:
    """One object per question, when its run is over."""

    def __init__(self) -> None:
        self._recorder = Recorder()

    def show(self, event: Event) -> None:
        if run := self._recorder.feed(event):
            console.write(console.dumps(run))
