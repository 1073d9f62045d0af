"""Calls that can be left: whoever waits for them can be interrupted, the calls themselves cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from sage_cli.hardware.threads import background
from sage_cli.signals import check_interrupted

T = TypeVar("T")

_GLANCE: Final = 0.2  # seconds between checks of the waiting thread


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
    background(run, "sage-web")
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            value, error = results.get(timeout=min(remaining, _GLANCE))
        except Empty:
            check_interrupted()
            continue
        if error is not None:
            raise error
        return value  # type: ignore[return-value]
    raise TimeoutError
