"""Data made by other processes, in an order that does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import queue as queue_module
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sage_cli.signals import end_with_parent

T = TypeVar("T")
_AHEAD = 6  # items that a process makes before they are asked for
_PATIENCE = 20.0  # seconds without an item after which it is asked whether the process still lives


class Interleaved(Iterator[T]):
    """Items of ``count`` endless streams, one of each in turn. Processes begin at once; :meth:`close` ends them.

    Args:
        make: begins a stream, by its number. It and the items cross process boundaries.
        processes: that make items; 0 makes them here.
    """

    def __init__(self, make: Callable[[int], Iterator[T]], count: int, processes: int) -> None:
        self._count, self._next = count, 0
        self._streams = [make(number) for number in range(count)] if processes == 0 else []
        context = multiprocessing.get_context("spawn")
        processes = min(processes, count)
        self._queues = [context.Queue(_AHEAD) for _ in range(processes)]
        self._workers = [
            context.Process(target=_work, args=(make, range(number, count, processes), queue), daemon=True)
            for number, queue in enumerate(self._queues)
        ]
        for worker in self._workers:
            worker.start()

    def __next__(self) -> T:
        number, self._next = self._next, (self._next + 1) % self._count
        if self._streams:
            return next(self._streams[number])
        worker = number % len(self._workers)
        while True:
            try:
                item = self._queues[worker].get(timeout=_PATIENCE)
            except queue_module.Empty:
                if not self._workers[worker].is_alive():
                    raise RuntimeError("a process that makes data has died; its error is above") from None
                continue
            if isinstance(item, Exception):
                raise item
            return item

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()


def _work(make: Callable[[int], Iterator[T]], numbers: range, queue: Any) -> None:
    end_with_parent()
    import torch

    torch.set_num_threads(1)
    try:
        streams = [make(number) for number in numbers]
        while True:
            for stream in streams:
                queue.put(next(stream))
    except Exception as error:  # noqa: BLE001 (raised again where the items are asked for)
        queue.put(error)
    except KeyboardInterrupt:  # the main process ends the run
        pass
