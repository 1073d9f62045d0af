"""Disk cache of what a model computes from a video: frame embeddings and the KV cells of prompt prefixes.

Keys cover everything the result depends on: the contents of the video and of the model files, the frame's time and size, the version of
llama.cpp and the device. Reading checks the key and the whole entry: see :mod:`sage_cli.store.seal`. So an entry is either exactly what
would be computed again, or a miss.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.hardware.threads import background
from sage_cli.model.statefile import StateFiles
from sage_cli.signals import signals_held
from sage_cli.store.diskcache import DiskCache

logger = logging.getLogger(__name__)

EMBEDDINGS_LIMIT: Final = 4 << 30
PREFIXES_LIMIT: Final = 8 << 30

_WAITING: Final = 64 << 20  # bytes of embeddings that may wait to be written; what comes on top is not
# An embedding is written if encoding it took this many times longer than reading one back. Writing takes several times as long as reading,
# delays the encoding beside it, and is seldom of use: a question about the same frames finds their prefix.
_WORTH: Final = 20
_CLOSE: Final = ""  # in place of a key: the thread ends
_PATIENCE: Final = 0.2  # seconds that closing waits for embeddings still to be written


class ModelCache:
    """The two caches in a folder. A cache that is damaged or not writable disables itself and logs that once.

    Args:
        folder: created when needed; owns the subfolders ``embeddings`` and ``prefixes``.
        embeddings, prefixes: maximum bytes of each; 0 disables it.
        everything: also keep entries that are as quick to compute as to read, and prefixes that evict most of the others.
    """

    def __init__(
        self, folder: Path, *, embeddings: int = EMBEDDINGS_LIMIT, prefixes: int = PREFIXES_LIMIT, everything: bool = False
    ) -> None:
        self.embeddings = Embeddings(folder / "embeddings", embeddings, everything)
        self.prefixes = StateFiles(folder / "prefixes", prefixes, everything)

    def close(self) -> None:
        self.embeddings.close()


class Embeddings:
    """Embeddings on disk, written in the background.

    Attributes:
        read_s: seconds to read and check one; ``None`` before the first.
        keeps: whether they are being stored.
    """

    def __init__(self, folder: Path, limit: int, everything: bool) -> None:
        self._disk = DiskCache(folder, limit)
        self._everything = everything
        self.read_s: float | None = None
        self.keeps = limit > 0
        self._queue: queue.Queue[tuple[str, NDArray[np.floating]]] = queue.Queue()
        self._waiting = 0  # bytes in the queue
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def get(self, key: str, shape: tuple[int, int]) -> NDArray[np.floating] | None:
        """The one stored under ``key``; ``None`` if it is missing or damaged."""
        if not self.keeps:  # a lookup takes a tenth of the time that a GPU encodes
            return None
        started = time.perf_counter()
        data = self._disk.get(key)
        if data is None:
            return None
        cells = shape[0] * shape[1]
        kind = {2 * cells: np.float16, 4 * cells: np.float32}.get(len(data))
        if kind is None:
            return None
        found: NDArray[np.floating] = np.frombuffer(data, kind).reshape(shape)
        self.read_s = min(self.read_s or 1e9, time.perf_counter() - started)
        return found

    def keep(self, key: str, embedding: NDArray[np.floating], encode_s: float) -> None:
        """Store one in the background if reading it will be much faster than encoding it.

        Args:
            embedding: must not be modified afterwards.
            encode_s: seconds spent encoding it.
        """
        self.keeps = (
            not self._stopped.is_set()
            and self._disk.usable
            and (self._everything or self.read_s is None or encode_s > _WORTH * self.read_s)
        )
        if not self.keeps:
            return
        if self._thread is None:
            try:
                with signals_held():
                    self._thread = background(self._write, "sage-embeddings")
            except OSError as error:
                self._give_up(error)
                return
        with self._lock:
            if self._waiting > _WAITING:
                return
            self._waiting += embedding.nbytes
        self._queue.put((key, embedding))

    def flush(self) -> None:
        """Wait until all are on disk."""
        if self._thread is not None:
            self._queue.join()

    def close(self) -> None:
        """Stop writing; those that wait are dropped and will be computed again."""
        self._stopped.set()
        if self._thread is not None:
            self._queue.put((_CLOSE, np.empty(0, np.float16)))
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                return  # it may be inside the index; the process ends with it
        self._disk.close()

    def _write(self) -> None:
        while True:
            key, embedding = self._queue.get()
            try:
                if key == _CLOSE:
                    return
                if not self._stopped.is_set() and self._disk.set(key, embedding.tobytes()) and self.read_s is None:
                    self.get(key, (embedding.shape[0], embedding.shape[1]))  # takes the time
            except Exception as error:  # noqa: BLE001  (the thread goes on: :meth:`flush` waits for it)
                self._give_up(error)
            finally:
                with self._lock:
                    self._waiting -= embedding.nbytes
                self._queue.task_done()

    def _give_up(self, error: Exception) -> None:
        self._stopped.set()
        self.keeps = False
        logger.warning("frame embeddings are not saved: %s", error or type(error).__name__)
