"""Waits that Ctrl-C ends: another thread does the work, in FFmpeg, at a server or in the resolver, and the caller only waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue, SimpleQueue
from threading import Event, Thread
from typing import Final, TypeVar

from sage_cli.hardware.threads import background
from sage_cli.signals import check_interrupted, signals_held

T = TypeVar("T")

# Seconds between checks of a waiting thread.
GLANCE_S: Final = 0.2


class Stopped(Exception):
    """Another thread stopped the work."""


def in_thread(call: Callable[[], T], seconds: float = float("inf")) -> T:
    """The result of ``call``, or its exception. When the wait ends early, a thread is left behind with it.

    Raises:
        TimeoutError: it took longer than ``seconds``.
    """
    results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:  # noqa: BLE001  (passed to the waiting thread)
            results.put((None, error))

    deadline = time.monotonic() + seconds
    background(run, "sage-call")
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            value, error = results.get(timeout=min(remaining, GLANCE_S))
        except Empty:
            check_interrupted()
            continue
        if error is not None:
            raise error
        return value  # type: ignore[return-value]
    raise TimeoutError


def in_background(work: Callable[[Event], T]) -> T:
    """The result of ``work``, or its exception. An interrupted wait sets the event; ``work`` must check it."""
    return next(iterate_in_background(lambda stop: iter((work(stop),)), ahead=1))


def iterate_in_background(
    work: Callable[[Event], Iterator[T]], ahead: int, idle: Callable[[], Iterable[T]] = tuple
) -> Generator[T, None, None]:
    """The items of ``work``, computed at most ``ahead`` in advance. Closing sets the event; ``work`` must check it.

    Args:
        idle: called five times a second while nothing comes. Yields its items; may raise to end the wait.
    """
    queue: Queue[tuple[T | None, BaseException | None]] = Queue(ahead)
    stop = Event()

    def put(item: tuple[T | None, BaseException | None]) -> None:
        while not stop.is_set():
            with suppress(Full):
                queue.put(item, timeout=GLANCE_S)
                return
        raise Stopped

    def run() -> None:
        try:
            for item in work(stop):
                put((item, None))
            put((None, None))
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001
            with suppress(Stopped):
                put((None, error))

    thread: Thread | None = None
    try:
        with signals_held():
            thread = background(run, "sage-background")
        while True:
            try:
                item, error = queue.get(timeout=GLANCE_S)
            except Empty:
                check_interrupted()
                yield from idle()
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        if thread is not None:
            thread.join(timeout=0.5)
