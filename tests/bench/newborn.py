"""A worker that Ctrl-C meets while it still imports its modules, this one among them."""

import multiprocessing
import os
import signal
from collections.abc import Callable

from tests.bench.workers import obedient

if multiprocessing.parent_process() is not None and "SAGE_TEST_INTERRUPT" in os.environ:
    signal.raise_signal(signal.SIGINT)


def interrupted_at_birth() -> Callable[[str], str]:
    return obedient()
