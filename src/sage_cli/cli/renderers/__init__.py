"""Renderings of a run. Every renderer consumes the event stream and knows nothing else.

Results go to stdout, through :class:`.plain.Plain`, :class:`.json_lines.Json` or :class:`.json_lines.Jsonl`. Progress goes to stderr: as
the live view of :class:`.terminal.Terminal`, or as the few lines of :class:`.plain.Notes` when stderr is not a terminal.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Protocol

from sage_cli.agent.events import Event
from sage_cli.cli import console
from sage_cli.cli.interrupts import interrupts
from sage_cli.cli.options import output_form
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from collections.abc import Generator


class Renderer(Protocol):
    """Shows events as they arrive."""

    def show(self, event: Event) -> None: ...


def renderer(
    options: Options, *, several: bool = False, label: str = "", first: bool = True, live: bool = True, told: set[str] | None = None
) -> AbstractContextManager[Renderer]:
    """The renderer for this process's stdout and stderr; enter it before the first event.

    Args:
        several: more than one question is asked, so answers in a pipe carry their questions.
        label: heading of the answers in a pipe: the video, if there are several.
        first: nothing was shown before.
        live: show the work on a terminal as it is done.
        told: notices that were shown for other videos, and are not about one.
    """
    from sage_cli.cli.renderers.json_lines import Json, Jsonl, Structured
    from sage_cli.cli.renderers.plain import Notes, Plain, Styled

    output = output_form(options)
    # Events that stream to the same terminal would tear a live view.
    crowded = output == "jsonl" and sys.stdout.isatty()
    live = live and console.shows_progress() and not crowded
    results: Renderer
    if output == "json":
        results = Json()
    elif output == "jsonl":
        results = Jsonl()
    elif options.schema is not None:
        results = Structured()
    elif live and sys.stdout.isatty():  # the live view shows the question above the answer
        results = Styled()
    else:
        results = Plain(several=several, label=label, first=first)
    if not live:
        return Notes(results, label=label, told=told)

    from sage_cli.cli.renderers.terminal import Terminal

    return Terminal(results, verbose=options.verbose, told=told)


def follow(events: Generator[Event], view: Renderer) -> bool:
    """Show one question's run from start to end; return whether it was answered."""
    event: Event | None = None
    # Closed on Ctrl-C too: a run removes what it left on disk.
    with closing(events) as run, interrupts() as stop_if_asked:
        for event in run:
            view.show(event)
            stop_if_asked()
    return event is not None and event.type == "answer"
