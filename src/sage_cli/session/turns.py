"""One thread at a time, and no forks: llama.cpp and whisper.cpp end a process in which two threads use one model, and wait for ever in the
child of one that has used them, since a fork has none of their threads."""

from __future__ import annotations

import os
from collections.abc import Generator
from inspect import GEN_CLOSED, getgeneratorstate
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar
from weakref import WeakSet

from sage_cli.errors import UsageError

T = TypeVar("T")
_used, _forked = False, False  # a session was opened in this process; or, before it was forked, in its parent


def _note_fork() -> None:
    global _forked
    _forked = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Run(Generator[T]):
    """A generator that is continued in turn with the others of a session.

    :meth:`stop` ends it with an error for whoever continues it: a mere end would look as if nothing more came.

    Attributes:
        thread: the one that continued it last.
    """

    def __init__(self, steps: Generator[T], turns: Turns) -> None:
        self._steps, self._turns, self._stopped = steps, turns, False
        self.thread: Thread | None = None

    @property
    def ended(self) -> bool:
        return getgeneratorstate(self._steps) == GEN_CLOSED

    def send(self, value: None) -> T:
        if self._stopped:
            raise UsageError("the session was closed before this came to its end: keep the session open until then")
        self._turns.take(self)
        return self._steps.send(value)

    def throw(self, *error: Any) -> T:
        return self._steps.throw(*error)

    def close(self) -> None:
        self._steps.close()

    def stop(self) -> None:
        """End the work.

        Raises:
            UsageError: another thread executes it.
        """
        ended = self.ended
        try:
            self._steps.close()
        except ValueError as error:
            raise UsageError("another thread still uses this session: wait for its end before you close the session") from error
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
        self._lock = Lock()
        self._runs: WeakSet[Run[Any]] = WeakSet()

    def run(self, steps: Generator[T]) -> Run[T]:
        """A generator as a run, within these rules: it raises a UsageError if another thread has an unfinished one, or the process is a
        fork."""
        run = Run(steps, self)
        with self._lock:
            self._runs.add(run)
        return run

    def stop(self) -> None:
        """End all runs.

        Raises:
            UsageError: another thread executes one.
        """
        for run in [*self._runs]:
            run.stop()

    def take(self, run: Run[Any]) -> None:
        """Called before a run is continued."""
        _check_process()
        here = current_thread()
        with self._lock:
            for other in self._runs:
                if other is not run and other.thread not in (None, here) and other.thread.is_alive() and not other.ended:
                    raise UsageError(
                        "this session is in use by another thread: give each thread a session of its own, or let one wait for the other"
                    )
            run.thread = here


def _check_process() -> None:
    if _forked:
        raise UsageError("this process was forked from one that used sage_cli: let multiprocessing start it by 'spawn'")
