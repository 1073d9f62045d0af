"""Clean up before a signal ends the process; end the work of one thread from another."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event
from types import FrameType
from typing import Final, NoReturn

# Ctrl-C, a service manager's stop, a closed terminal, Ctrl-\\. Windows has only the first two.
ENDING: Final = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if isinstance(number := getattr(signal, name, None), signal.Signals)
)


def clean_up_when_ended() -> None:
    """On these signals, unwind to remove temporary files, then exit with 128 + the signal number, as shells report it.

    SIGINT keeps Python's handler, which raises KeyboardInterrupt. Ignored signals stay ignored, as ``nohup`` requires.
    """
    for number in ENDING:
        if number is not signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def leave_signals_to_main_thread() -> None:
    """Block signals in this thread: a signal delivered here would not wake the main thread, which handles it."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait for the end of the block, which must be short.

    An exception at the wrong moment in a lock's own code, as executors have it, leaves the lock taken for ever. Does nothing on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- what signals are to the main thread, for others -----------------------------------------------------------------

_interruption: ContextVar[Event | None] = ContextVar("interruption", default=None)


@contextmanager
def interrupted_by(event: Event) -> Iterator[None]:
    """Inside the block, once the event is set, waits and native calls of this thread end with a KeyboardInterrupt, as by Ctrl-C."""
    token = _interruption.set(event)
    try:
        yield
    finally:
        _interruption.reset(token)


def interrupted() -> bool:
    """Whether the event of :func:`interrupted_by` is set."""
    event = _interruption.get()
    return event is not None and event.is_set()


def check_interrupted() -> None:
    """Call it again and again in loops that wait or work for long.

    Raises:
        KeyboardInterrupt: the event of :func:`interrupted_by` is set.
    """
    if interrupted():
        raise KeyboardInterrupt


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
