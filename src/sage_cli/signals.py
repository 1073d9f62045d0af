"""Clean up before a signal ends the process; end the work of one thread from another."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import Event
from types import FrameType
from typing import Any, Final, NoReturn, TypeAlias

Handler: TypeAlias = Callable[[int, "FrameType | None"], Any]
Take: TypeAlias = Callable[[signal.Signals, Handler], None]

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


def end_with_parent() -> None:
    """A worker of ``multiprocessing`` ends when the process that started it is killed: nobody would receive the results."""
    from multiprocessing import parent_process

    if (parent := parent_process()) is None:
        return

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, name="sage-parent", daemon=True).start()


def leave_signals_to_main_thread() -> None:
    """Block signals in this thread: a signal delivered here would not wake the main thread, which handles it."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


class _Relay:
    """A handler in place of others: calls them as long as nobody takes the signals."""

    def __init__(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        self.handlers = handlers
        self.take: Take | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        handler = self.handlers[signal.Signals(number)]
        if self.take is None:
            handler(number, frame)
        else:
            self.take(signal.Signals(number), handler)


@contextmanager
def signals_taken(take: Take) -> Iterator[None]:
    """Inside the block, in the main thread, a signal that ends a process calls ``take`` with its number and its handler.

    Signals that are ignored, left to the system or handled outside Python stay so.

    A handler may raise between any two of these steps. So none is lost on the way: before all are replaced, and after the block, the relay
    passes signals on, even if an exception keeps it from being replaced itself.
    """
    relay = _Relay({number: handler for number in ENDING if callable(handler := _handler(number))})
    try:
        for number in relay.handlers:
            signal.signal(number, relay)
        relay.take = take
        yield
    finally:
        relay.take = None
        for number, handler in relay.handlers.items():
            signal.signal(number, handler)


def _handler(number: signal.Signals) -> object:
    handler: object = signal.getsignal(number)
    while isinstance(handler, _Relay) and handler.take is None:  # was not put back
        handler = handler.handlers[number]
    return handler


@contextmanager
def signals_held(note: Callable[[], object] = lambda: None) -> Iterator[Mapping[signal.Signals, Handler]]:
    """Signals wait for the end of the block. Yields those that came, with their handlers.

    An exception at the wrong moment in a lock's own code, as executors have it, leaves the lock taken for ever; after a native call, it
    loses what the call returned. Does nothing in other threads: no handler runs there. A signal mask would not do: it holds back a signal
    from one thread, but the system may give it to another one, such as llama.cpp's, and Python still runs the handler in the main thread.

    Args:
        note: called when a signal comes.
    """
    came: dict[signal.Signals, Handler] = {}

    def take(number: signal.Signals, handler: Handler) -> None:
        came[number] = handler
        note()

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    try:
        with signals_taken(take):
            yield came
    finally:
        with ExitStack() as handling:  # all are handled, in the order in which they came, whatever they raise
            for number, handler in reversed(came.items()):
                handling.callback(handler, number, None)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """A process that is started inside the block is not reached by Ctrl-C until it calls :func:`ignore_interrupts`. Not so on Windows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with signals_held():  # or a handler could raise as the mask is set, and leave it so
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave Ctrl-C, which goes to all processes of a terminal, to another process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


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
