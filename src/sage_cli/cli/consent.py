"""Confirmation at the terminal: of deletions, and, with ``--web=ask``, of web requests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sage_cli.cli import console
from sage_cli.errors import UsageError

if TYPE_CHECKING:
    from sage_cli.agent.events import WebRequested


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(action: str, *, yes: bool, default: bool = False) -> None:
    """Ask before something is deleted or downloaded.

    Args:
        action: what would be done, with its size: ``remove qwen3-vl-4b (3.3 GB)``.
        yes: do not ask.
        default: what an empty line means.

    Raises:
        UsageError: there is no terminal to ask on.
        typer.Exit: the answer is no.
    """
    if yes:
        return
    if not at_terminal():
        raise UsageError(f"cannot ask whether to {action}: add --yes")
    if not agreed(action, default=default):
        raise typer.Exit(1)


def agreed(action: str, *, default: bool) -> bool:
    return _ask(f"{action}? {'[Y/n]' if default else '[y/N]'}", default="y" if default else "n") in ("y", "yes")


def at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str, default: str = "") -> str:
    """The answer; ``default`` for an empty line, and nothing at the end of input."""
    line = console.ask(f"sage: {' '.join(console.neutral(question).split())}")
    return line and (line.strip().lower() or default)


class Consent:
    """Asks on stderr, reads the answer from stdin. ``a`` allows all further requests of the command; anything except yes denies.

    Not asked about: the ``robots.txt`` of a page that was just allowed, and redirects within its host.

    Args:
        web: the option ``web``.

    Raises:
        UsageError: it says to ask, and there is no terminal to ask on.
    """

    def __init__(self, web: str) -> None:
        if web == "ask" and not at_terminal():
            raise UsageError("--web=ask needs a terminal: use --web, or --web=off")
        self._all = False
        self._host = ""

    def __call__(self, request: WebRequested) -> bool:
        if self._all or (request.purpose in ("robots", "redirect") and request.host == self._host):
            return True
        answer = _ask(f"{request.line}? [y]es, [n]o, [a]ll:")
        self._all = answer in ("a", "all")
        allowed = self._all or answer in ("y", "yes")
        self._host = request.host if allowed else ""
        return allowed
