"""Two processes that train together, on the CPU and within a test."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable

from accelerate.state import AcceleratorState, GradientState, PartialState


def together(work: Callable[[], None], count: int = 2) -> None:
    """Run ``work`` in ``count`` forked processes that know of each other.

    Raises:
        AssertionError: it failed in one of them; its traceback is on stderr.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_fork(work, rank, count, port) for rank in range(count)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * count


def _fork(work: Callable[[], None], rank: int, count: int, port: int) -> int:
    if child := os.fork():
        return child
    try:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        os.environ.update({name: str(value) for name, value in places.items()}, MASTER_ADDR="127.0.0.1", ACCELERATE_USE_CPU="true")
        for state in (AcceleratorState, PartialState, GradientState):
            state._reset_state()
        work()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
