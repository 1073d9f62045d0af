"""Reliable Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[Callable[[], None]]:
    """A check that raises KeyboardInterrupt after Ctrl-C: PyAV sometimes swallows the one that Python raises."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # the parent process wants it so
        yield stop_if_asked
        return

    def report(lost: sys.UnraisableHookArgs) -> None:
        # Raised in a destructor, it is lost there, and said by `stop_if_asked` instead.
        if lost.exc_type is not KeyboardInterrupt:
            hook(lost)

    hook = sys.unraisablehook
    sys.unraisablehook = report
    signal.signal(signal.SIGINT, ask)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook
