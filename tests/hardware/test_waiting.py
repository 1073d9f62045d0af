from __future__ import annotations

import os
import signal
from threading import Event, Thread
from typing import Any

import pytest

from sage_cli.hardware.waiting import Stopped, in_background, iterate_in_background


def test_work_in_the_background_is_told_to_stop() -> None:
    began, ended = Event(), Event()

    def endless(stop: Event) -> Any:
        began.set()
        stop.wait(20)
        ended.set()
        raise Stopped

    def interrupt() -> None:
        began.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        in_background(endless)
    assert ended.wait(5)


def test_errors_and_items_of_background_work_come_in_order() -> None:
    def work(stop: Event) -> Any:
        yield 1
        yield 2
        raise ValueError("three")

    items = iterate_in_background(work, ahead=1)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(items)
