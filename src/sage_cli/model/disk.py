"""What a model computed from a video, on disk: frame embeddings, and the KV cells of whole prompt prefixes.

Both are keyed by content: the video's, the frame's time and size, the model files', the version of llama.cpp and the device. Every entry is
checked by a digest of all its bytes when it is read. So an entry is either exactly what would be computed again, or never found.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from sage_cli.hardware.threads import background
from sage_cli.model.statefile import StateFiles
from sage_cli.store.diskcache import DiskCache

logger = logging.getLogger(__name__)

EMBEDDINGS_LIMIT: Final = 4 << 30
PREFIXES_LIMIT: Final = 8 << 30

_DIGEST: Final = 16  # bytes of digest in front of an embedding
_WAITING: Final = 64 << 20  # bytes of embeddings that may wait to be written; what comes on top is not
_WORTH: Final = 8  # an embedding is written if encoding it took this many times longer than reading one back
_PATIENCE: Final = 0.2  # seconds that closing waits for embeddings still to be written


class ModelCache:
    """The two stores in a folder. One that is damaged or cannot be written disables itself, and that is logged once.

    Args:
        folder: made when it is needed; ``embeddings`` and ``prefixes`` inside it are ours.
        embeddings, prefixes: most bytes to keep of each; 0 keeps none.
        everything: keep also what is as quick to compute as to read, and a prefix that pushes out most of the others.
    """

    def __init__(
        self, folder: Path, *, embeddings: int = EMBEDDINGS_LIMIT, prefixes: int = PREFIXES_LIMIT, everything: bool = False
    ) -> None:
        self._embeddings = _Embeddings(folder / "embeddings", embeddings, everything)
        self.prefixes = StateFiles(folder / "prefixes", prefixes, everything)

    def close(self) -> None:
        """Stop writing; what is not written by now is computed again another time."""
        self._embeddings.close()

    def flush(self) -> None:
        """Wait until all embeddings are written."""
        self._embeddings.flush()

    @property
    def keeps_embeddings(self) -> bool:
        """Whether embeddings are written as they are made."""
        return self._embeddings.keeps

    @property
    def embedding_read_s(self) -> float | None:
        """Seconds that reading an embedding took, the checking included; ``None`` as long as none was read."""
        return self._embeddings.read_s

    def embedding(self, key: str, shape: tuple[int, int]) -> NDArray[np.floating] | None:
        """The embedding stored under ``key``, if it is there and whole."""
        return self._embeddings.get(key, shape)

    def keep_embedding(self, key: str, embedding: NDArray[np.floating], encode_s: float) -> None:
        """Have an embedding written in the background, if reading it will be much faster than encoding it.

        Args:
            embedding: not to be changed any more.
            encode_s: seconds that it took to encode.
        """
        self._embeddings.keep(key, embedding, encode_s)


class _Embeddings:
    """Embeddings on disk, written in the background."""

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
        started = time.perf_counter()
        data = self._disk.use(lambda cache: cache.get(key))
        if not isinstance(data, bytes) or data[:_DIGEST] != xxhash.xxh3_128_digest(memoryview(data)[_DIGEST:]):
            return None
        cells = shape[0] * shape[1]
        kind = {2 * cells: np.float16, 4 * cells: np.float32}.get(len(data) - _DIGEST)
        if kind is None:
            return None
        found: NDArray[np.floating] = np.frombuffer(data, kind, offset=_DIGEST).reshape(shape)
        self.read_s = min(self.read_s or 1e9, time.perf_counter() - started)
        return found

    def keep(self, key: str, embedding: NDArray[np.floating], encode_s: float) -> None:
        self.keeps = (
            not self._stopped.is_set()
            and self._disk.usable
            and (self._everything or self.read_s is None or encode_s > _WORTH * self.read_s)
        )
        if not self.keeps:
            return
        with self._lock:
            if self._waiting > _WAITING:
                return
            self._waiting += embedding.nbytes
        if self._thread is None:
            self._thread = background(self._write, "sage-embeddings")
        self._queue.put((key, embedding))

    def flush(self) -> None:
        if self._thread is not None:
            self._queue.join()

    def close(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._queue.put(("", np.empty(0, np.float16)))  # wakes it
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                return  # it may be inside the index; the process ends with it
        self._disk.close()

    def _write(self) -> None:
        while True:
            key, embedding = self._queue.get()
            try:
                if self._stopped.is_set():
                    return
                data = embedding.tobytes()
                if self._set(key, xxhash.xxh3_128_digest(data) + data) and self.read_s is None:
                    self.get(key, (embedding.shape[0], embedding.shape[1]))  # takes the time
                with self._lock:
                    self._waiting -= embedding.nbytes
            finally:
                self._queue.task_done()

    def _set(self, key: str, data: bytes) -> bool:
        return bool(self._disk.use(lambda cache: cache.set(key, data)))
