"""How long a run has taken, and whether it may go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class OutOfTimeError(Exception):
    """The run's time limit was reached."""


class Stopwatch:
    """Counts the seconds of a run.

    Args:
        clock: seconds from any fixed point.
        limit_s: seconds that the run may take; ``None`` for no limit.
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
        """Time that is not the run's: what a person takes to decide."""
        since = self._clock()
        try:
            yield
        finally:
            self._started += self._clock() - since
