"""A pool of worker processes that may crash, on this machine or on a Ray cluster.

A worker is loaded once and processes one item after another. If its process dies, for any reason, only its current item is lost: the death
is that item's outcome, and a new worker replaces it. What workers on this machine log, the parent logs: it tells each notice once.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sage_cli.errors import ExtraError, SageError, UsageError, machine_trouble
from sage_cli.signals import clean_up_when_ended, end_with_parent, ignore_interrupts, interrupts_blocked, signals_held

T = TypeVar("T")
R = TypeVar("R")
# Called in the worker's process, so it must be picklable: a module's function or a partial of one.
Factory: TypeAlias = Callable[[], Callable[[T], R]]

_READY: Final = "ready"
_GRACE: Final = 2.0  # seconds for a worker to end by itself


@dataclass(frozen=True, slots=True)
class Died:
    """The outcome of an item whose worker died; ``reason`` is for people."""

    reason: str


def work_here(factory: Factory[T, R], items: Iterable[T], jobs: int = 1, limit_s: float | None = None) -> Generator[tuple[T, R | Died]]:
    """Process the items on this machine; yields outcomes as they are ready.

    Args:
        factory: makes the function that processes an item. Called once in every worker.
        jobs: number of workers.
        limit_s: seconds after which a worker counts as hung and is killed; ``None`` for never.

    Raises:
        SageError: a worker could not start or raised it, or the machine failed (full disk, no memory).
    """
    waiting = deque(items)
    workers: list[_Worker[T]] = []
    try:
        while True:
            for worker in workers:
                if waiting and worker.ready and worker.item is None:
                    worker.give(waiting.popleft())
            starting = sum(not worker.ready for worker in workers)
            for _ in range(min(jobs - len(workers), len(waiting) - starting)):
                with signals_held():  # each is ended with the others, or was never started
                    workers.append(_Worker(factory))
            if not waiting and all(worker.item is None for worker in workers):
                return
            active = [worker for worker in workers if not worker.ready or worker.item is not None]
            heard = wait([worker.connection for worker in active], _until_late(active, limit_s))
            for worker in active:
                if worker.connection in heard:
                    outcome = worker.receive()
                elif worker.item is not None and limit_s is not None and worker.seconds > limit_s:
                    outcome = Died(f"no reply after {limit_s:.0f} s: its process was ended")
                else:
                    continue
                if isinstance(outcome, _Logged):
                    outcome.log()
                    continue
                if isinstance(outcome, SageError):
                    raise outcome
                if isinstance(outcome, Died):
                    worker.kill()
                    workers.remove(worker)
                    if worker.item is None:
                        raise SageError(f"a worker could not start: {outcome.reason}")
                if worker.item is not None:
                    item, worker.item = worker.item, None
                    yield item, outcome
                worker.ready = True
    finally:
        for worker in workers:
            worker.process.terminate()  # all at once, so that they end in parallel
        for worker in workers:
            worker.kill()


def _until_late(workers: Sequence[_Worker[Any]], limit_s: float | None) -> float | None:
    """Seconds until the first of these exceeds the limit."""
    times = [worker.seconds for worker in workers if worker.item is not None]
    return max(0.0, limit_s - max(times)) + 0.01 if limit_s is not None and times else None


class _Worker(Generic[T]):
    """A process, the parent's end of its pipe, and what it is doing."""

    def __init__(self, factory: Factory[T, Any]) -> None:
        # Not forked: llama.cpp's threads and devices do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, factory), daemon=True)
        if os.name == "posix":
            resource_tracker.ensure_running()  # starting it unblocks SIGINT
        with interrupts_blocked():  # in a worker that is still importing, Ctrl-C would print a traceback
            self.process.start()
        theirs.close()  # so that the child's death closes the pipe
        self.ready = False
        self.item: T | None = None
        self._since = 0.0

    @property
    def seconds(self) -> float:
        """How long it has worked on its item."""
        return time.monotonic() - self._since

    def give(self, item: T) -> None:
        self.item, self._since = item, time.monotonic()
        with suppress(OSError):  # it died while idle, as the pipe will report
            self.connection.send(item)

    def receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return Died(_how_it_ended(self.process.exitcode or 0))

    def kill(self) -> None:
        if self.ready and self.item is None:  # idle: it ends with its pipe, and a signal could only disturb it
            self.connection.close()
            self.process.join(_GRACE)
        self.process.terminate()  # it removes its temporary files
        self.process.join(_GRACE)
        self.process.kill()
        self.process.join()
        self.connection.close()


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    try:
        return f"its process was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"its process was ended by signal {-status}"


@dataclass(frozen=True, slots=True)
class _Logged:
    """A log record of a worker, in words: not everything that is logged can be pickled."""

    name: str
    level: int
    kind: str  # what records that differ in their arguments have in common
    text: str

    def log(self) -> None:
        logging.getLogger(self.name).log(self.level, self.text, extra={"kind": self.kind})


class _Reports(logging.Handler):
    """The worker's end of the pipe, for its thread and all that log."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection, self._turn = connection, threading.RLock()

    def send(self, value: object) -> None:
        with self._turn:
            self._connection.send(value)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.send(_Logged(record.name, record.levelno, str(record.msg), record.getMessage()))
        except OSError:  # the parent has ended
            pass
        except Exception:  # noqa: BLE001  (a library's mistake, as logging's own handlers take it)
            self.handleError(record)


def _serve(connection: Connection, factory: Factory[T, Any]) -> None:
    """The main function of a worker process."""
    reports = _Reports(connection)
    logging.getLogger().addHandler(reports)
    clean_up_when_ended()
    ignore_interrupts()  # the parent decides
    end_with_parent()
    try:
        work = factory()
    except SageError as error:
        reports.send(error)
        return
    reports.send(_READY)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            reports.send(work(item))
        except (OSError, MemoryError) as error:  # a full disk or lack of memory would fail the other items too
            reports.send(SageError(machine_trouble(error)))
            return
        except SageError as error:
            reports.send(error)
            return


# ---- Ray -----------------------------------------------------------------------------------------------------------


def work_on_ray(factory: Factory[T, R], items: Iterable[T], jobs: int = 1, limit_s: float | None = None) -> Generator[tuple[T, R | Died]]:
    """The same on a running Ray cluster (``RAY_ADDRESS``, or the one on this machine). Files must have the same paths on all nodes.

    Raises:
        ExtraError: Ray is not installed.
        UsageError: there is no cluster.
        SageError: a worker could not be made.
    """
    try:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
    except ImportError as error:
        raise ExtraError("--executor ray needs Ray", "ray") from error
    if not ray.is_initialized():
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError) as error:
            raise UsageError("there is no Ray cluster here: `ray start --head` starts one, RAY_ADDRESS names another") from error

    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    actor = ray.remote(num_cpus=1, num_gpus=gpus)(_RayWorker)
    waiting = deque(items)
    idle: list[Any] = []
    under_way: dict[Any, tuple[Any, T, float]] = {}

    def start(count: int) -> None:
        made = [actor.remote(factory) for _ in range(count)]
        idle.extend(made)
        try:
            ray.get([worker.start.remote() for worker in made])
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, SageError) else SageError(f"a worker could not start: {error.cause}") from None
        except RayActorError as error:
            raise SageError("a worker could not start: its process on the cluster ended") from error

    try:
        start(min(jobs, len(waiting)))
        while waiting or under_way:
            while waiting and len(under_way) < jobs:
                if not idle:
                    start(1)
                worker, item = idle.pop(), waiting.popleft()
                under_way[worker.work.remote(item)] = worker, item, time.monotonic()
            done, _ = ray.wait([*under_way], timeout=1)
            late = [task for task, (*_, since) in under_way.items() if limit_s is not None and time.monotonic() - since > limit_s]
            for task in [*done, *(task for task in late if task not in done)]:
                worker, item, _since = under_way.pop(task)
                try:
                    outcome: R | Died = ray.get(task, timeout=0)
                    idle.append(worker)
                except RayTaskError as error:
                    if isinstance(error.cause, SageError):
                        raise error.cause from None
                    outcome = Died(str(error.cause))
                    idle.append(worker)
                except RayActorError:
                    outcome = Died("its process on the cluster ended")
                except GetTimeoutError:
                    outcome = Died(f"no reply after {limit_s:.0f} s: its process was ended")
                    ray.kill(worker)
                yield item, outcome
    finally:
        for worker in [*idle, *(worker for worker, *_ in under_way.values())]:
            ray.kill(worker)


class _RayWorker:
    """A worker as a Ray actor. It is loaded in a separate call, because an actor whose constructor raises cannot say why."""

    def __init__(self, factory: Factory[Any, Any]) -> None:
        self._factory = factory

    def start(self) -> None:
        self._work = self._factory()

    def work(self, item: Any) -> Any:
        return self._work(item)
