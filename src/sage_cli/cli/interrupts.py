"""Reliable Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sage_cli.cli import console
from sage_cli.signals import Handler, signals_taken


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """A check that raises again what a signal raised: in callbacks and destructors of libraries, such exceptions are lost."""
    asked: Callable[[], object] | None = None

    def ask(number: signal.Signals, handler: Handler) -> None:
        nonlocal asked
        asked = partial(handler, number, None)
        asked()

    def stop_if_asked() -> None:
        if asked is not None:
            asked()

    def report(lost: sys.UnraisableHookArgs) -> None:
        if asked is None or not issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit)):
            hook(lost)

    hook = sys.unraisablehook
    with signals_taken(ask):
        try:
            sys.unraisablehook = report
            yield stop_if_asked
        finally:
            sys.unraisablehook = hook


@contextmanager
def resumable() -> Iterator[None]:
    """On Ctrl-C, say that the same command goes on from here."""
    try:
        yield
    except KeyboardInterrupt:
        console.note("progress saved; rerun the command to resume")
        raise
