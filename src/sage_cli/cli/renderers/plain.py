"""Nothing but the answer on stdout; on stderr only what a script's log should keep."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from sage_cli.agent.events import Answer, Event, NoAnswer, Notice, WebRequested
from sage_cli.cli import console

if TYPE_CHECKING:
    from sage_cli.cli.renderers import Renderer


class Plain:
    """The answer, as text."""

    def show(self, event: Event) -> None:
        if isinstance(event, Answer):
            console.write(console.neutral(event.answer))


class Notes:
    """Notices, what leaves the machine, and questions left without an answer, as lines on stderr; everything goes on to ``results``."""

    def __init__(self, results: Renderer, *, quiet: bool) -> None:
        self._results = results
        self._quiet = quiet

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def show(self, event: Event) -> None:
        self._results.show(event)
        match event:
            case Notice(text=text) if not self._quiet:
                console.say(text)
            case WebRequested(line=line) if not self._quiet:
                console.say(f"web: {line}")
            case NoAnswer(reason=reason):
                console.say(f"no answer: {reason}")
