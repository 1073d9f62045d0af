"""Threads: how many to compute with, and background threads."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from sage_cli.hardware import cgroups
from sage_cli.signals import leave_signals_to_main_thread, signals_held

T = TypeVar("T")

# ---- how many ------------------------------------------------------------------------------------------------------

_LOOKS: Final = 8
_FEW: Final = 4  # up to so many processors, the second thread of a core is used


def cores() -> int:
    """Processors available to this process: its affinity, limited by its control group."""
    bound = len(_processors())
    share = _group_share()
    return bound if share is None else max(1, min(bound, -int(-share // 1)))


def compute_threads() -> int:
    """Compute threads: one per performance core.

    A second thread per core or an efficiency core gains nothing, because all threads wait for the slowest one after every
    operation. Only machines with very few processors use them all.
    """
    usable = cores()
    return usable if usable <= _FEW else max(1, min(usable, _full_cores()))


class Sharing:
    """How many threads to compute with beside other programs.

    After every operation, threads wait for the slowest one. One that shares its processor with another program makes all of them wait while
    it is not its turn, for milliseconds, so they are faster without it. Where the others leave less than half of the threads a processor,
    all of them are faster again: each has a share of the time.

    Args:
        most: threads on an idle machine.
        processors: of the machine.
        load: where Linux counts the threads that run; elsewhere the answer is always ``most``.
    """

    def __init__(self, most: int, *, processors: int | None = None, load: Path = Path("/proc/loadavg")) -> None:
        self.most = most
        self._processors, self._load = processors or os.cpu_count() or 1, load
        self._running: deque[int] = deque(maxlen=_LOOKS)

    def threads(self) -> int:
        """Look, and give the number of threads for now. To be called while no thread of this process computes.

        Only programs that were running at every one of the last looks count.
        """
        try:
            self._running.append(int(cgroups.read(self._load).split()[3].partition("/")[0]))
        except (IndexError, ValueError):
            return self.most
        others = min(self._running) - 1 if len(self._running) == _LOOKS else 0  # the caller runs, too
        free = self._processors - max(0, others)
        return free if self.most <= 2 * free < 2 * self.most else self.most


def _processors() -> set[int]:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def _full_cores(system: Path = Path("/sys/devices")) -> int:
    """Performance cores this process is bound to, each counted once."""
    if sys.platform == "darwin":
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or os.cpu_count() or 1
    processors = _processors()
    fast = processors & _listed(system / "cpu_core" / "cpus")  # on Intel's hybrid processors
    found = {
        cgroups.read(system / "system" / "cpu" / f"cpu{number}" / "topology" / "thread_siblings_list") for number in fast or processors
    }
    return len(found) if "" not in found else len(processors) // 2  # unknown: most have two threads a core


def _listed(path: Path) -> set[int]:
    """Numbers in a Linux list such as ``0-3,8``; none if the file does not exist."""
    numbers: set[int] = set()
    for part in filter(None, cgroups.read(path).split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


def _sysctl(name: str) -> int:
    """A number from macOS; 0 if unavailable."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    found = ctypes.CDLL(ctypes.util.find_library("c")).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return value.value if found == 0 else 0


def _group_share(root: Path = cgroups.ROOT, own: Path = cgroups.OWN) -> float | None:
    """Processors that the control groups grant; ``None`` for no limit."""
    shares = []
    for folder in cgroups.folders("cpu", root, own):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                granted, each = (int(field) for name in names for field in cgroups.read(folder / name).split())
            except ValueError:  # no such file, or "max"
                continue
            if granted > 0 and each > 0:
                shares.append(granted / each)
    return min(shares, default=None)


# ---- in the background ---------------------------------------------------------------------------------------------


def background(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread that blocks signals.

    To know of the thread if and only if it runs, call it and store the result inside :func:`sage_cli.signals.signals_held`.

    Raises:
        OSError: the system starts no more threads.
    """

    def run() -> None:
        leave_signals_to_main_thread()
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    with _starting():
        thread.start()
    return thread


@contextmanager
def _starting() -> Iterator[None]:
    """Python's error for a thread that cannot be started, as the system's."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "cannot start a thread") from error


class Worker:
    """One thread that does what it is given, in order, so that none of it ever runs beside another.

    Args:
        name: of the thread.

    Raises:
        OSError: the system starts no more threads.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, name, leave_signals_to_main_thread)
        with _starting():
            self.submit(int)  # starts the thread: an executor keeps work for which it could start none, and does it at another time

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Work to do after all that it was given before."""
        with signals_held():
            return self._executor.submit(work, *arguments)

    def wait(self) -> None:
        """Wait until all is done."""
        with suppress(RuntimeError):  # the interpreter is ending, and its threads have
            self.submit(int).result()

    def close(self) -> None:
        """End the thread once all is done."""
        self._executor.shutdown()
