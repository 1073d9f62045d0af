"""Reliable Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sage_cli.signals import ENDING


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """A check that raises again what a signal raised: in callbacks and destructors of libraries, such exceptions are lost."""
    asked: signal.Signals | None = None

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = signal.Signals(number)
        before[asked](number, frame)

    def stop_if_asked() -> None:
        if asked is not None:
            before[asked](asked, None)

    def report(lost: sys.UnraisableHookArgs) -> None:
        if asked is None or not issubclass(lost.exc_type, (KeyboardInterrupt, SystemExit)):
            hook(lost)

    # What is ignored stays so.
    before = {number: handler for number in ENDING if callable(handler := signal.getsignal(number))}
    hook = sys.unraisablehook
    sys.unraisablehook = report
    for number in before:
        signal.signal(number, ask)
    try:
        yield stop_if_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
