"""The clock of a run, and its time limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OutOfTimeError(Exception):
    """The run's time limit was reached."""


class Stopwatch:
    """Measures the time of a run.

    Args:
        clock: returns seconds from any fixed point.
        limit_s: time limit in seconds; ``None`` for no limit.
    """

    def __init__(self, clock: Callable[[], float], limit_s: float | None) -> None:
        self._clock, self.limit_s = clock, limit_s
        self._started = clock()

    @property
    def elapsed(self) -> float:
        return self._clock() - self._started

    def check(self) -> None:
        """Raises :class:`OutOfTimeError` past the limit."""
        if self.limit_s is not None and self.elapsed > self.limit_s:
            raise OutOfTimeError

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude time from the run: the time that a person takes to decide."""
        since = self._clock()
        try:
            yield
        finally:
            self._started += self._clock() - since
