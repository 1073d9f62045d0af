"""A run as the user sees it. Every renderer consumes the event stream and knows nothing else.

Results go to stdout by :class:`.plain.Plain`, :class:`.json_lines.Json` or :class:`.json_lines.Jsonl`. What a person wants to follow
goes to stderr by :class:`.terminal.Terminal` or, when stderr is not a terminal, as the few lines of :class:`.plain.Notes`.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from sage_cli.agent.events import Event


class Renderer(Protocol):
    """Shows events as they come."""

    def show(self, event: Event) -> None: ...


def renderer(output: Literal["text", "json", "jsonl"], *, quiet: bool, verbose: bool) -> AbstractContextManager[Renderer]:
    """The renderer for this process's stdout and stderr; enter it before the first event."""
    from sage_cli.cli.renderers.json_lines import Json, Jsonl
    from sage_cli.cli.renderers.plain import Notes, Plain

    results: Renderer = Json() if output == "json" else Jsonl() if output == "jsonl" else Plain()
    # Events that stream to the same terminal would tear a live view.
    crowded = output == "jsonl" and sys.stdout.isatty()
    if quiet or crowded or not sys.stderr.isatty():
        return Notes(results, quiet=quiet)

    from sage_cli.cli.renderers.terminal import Terminal

    return Terminal(results, verbose=verbose)
