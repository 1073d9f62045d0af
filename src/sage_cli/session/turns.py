"""One thread at a time, and no forks: llama.cpp and whisper.cpp end a process in which two threads use one model, and wait for ever in the
child of one that has used them, since a fork has none of their threads."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from inspect import GEN_CLOSED, getgeneratorstate
from threading import RLock, Thread, current_thread
from typing import Any, TypeVar

from sage_cli.errors import UsageError

T = TypeVar("T")
_used, _forked = False, False  # a session was opened in this process; or, before it was forked, in its parent


def _note_fork() -> None:
    global _forked
    _forked = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Run(Generator[T]):
    """A generator that :meth:`stop` ends with an error for whoever continues it: a mere end would look as if nothing more came."""

    def __init__(self, steps: Generator[T]) -> None:
        self._steps, self._stopped = steps, False

    def send(self, value: None) -> T:
        if self._stopped:
            raise UsageError("the session was closed before this came to its end: keep the session open until then")
        return self._steps.send(value)

    def throw(self, *error: Any) -> T:
        return self._steps.throw(*error)

    def close(self) -> None:
        self._steps.close()

    def stop(self) -> None:
        """End the work.

        Raises:
            ValueError: it is being executed.
        """
        ended = getgeneratorstate(self._steps) == GEN_CLOSED
        self._steps.close()
        self._stopped = self._stopped or not ended


class Turns:
    """The runs of a session. While one is unfinished, no other thread may begin or continue another.

    A run may be continued by any thread. One that is suspended holds up nobody: other threads get an error instead of waiting, its own
    thread may begin another run, and so may all once that thread has ended.
    """

    def __init__(self) -> None:
        global _used
        _check_process()
        _used = True
        self._lock = RLock()  # a suspended run may be collected, and so ended, while its own thread holds the lock
        self._latest: dict[object, Thread] = {}  # by run, the thread that continued it last

    def guarded(self, run: Generator[T]) -> Run[T]:
        """The same run, within these rules.

        Raises:
            UsageError: another thread has an unfinished run, or the process is a fork.
        """
        return Run(self._guarded(run))

    def _guarded(self, run: Generator[T]) -> Generator[T]:
        key = object()
        try:
            with closing(run):
                while True:
                    self._take(key)
                    try:
                        item = next(run)
                    except StopIteration:
                        return
                    yield item
        finally:
            with self._lock:
                self._latest.pop(key, None)

    def _take(self, key: object) -> None:
        _check_process()
        here = current_thread()
        with self._lock:
            for other, thread in [*self._latest.items()]:
                if other is not key and thread is not here and thread.is_alive():
                    raise UsageError(
                        "this session is in use by another thread: give each thread a session of its own, or let one wait for the other"
                    )
            self._latest[key] = here


def _check_process() -> None:
    if _forked:
        raise UsageError("this process was forked from one that used sage_cli: let multiprocessing start it by 'spawn'")
