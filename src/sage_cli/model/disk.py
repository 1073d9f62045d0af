"""Disk cache of what a model computes from a video: frame embeddings and the KV cells of prompt prefixes.

Keys cover everything the result depends on: the contents of the video and of the model files, the frame's time and size, the version of
llama.cpp and the device. Reading checks the key and the whole entry: see :mod:`sage_cli.store.seal`. So an entry is either exactly what
would be computed again, or a miss.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.hardware.threads import background
from sage_cli.signals import signals_held
from sage_cli.store.diskcache import DiskCache
from sage_cli.store.files import PREFIXES, delete, part_of, report_damaged, report_unused, trim
from sage_cli.store.private import private_folder
from sage_cli.store.seal import digest

EMBEDDINGS_LIMIT: Final = 4 << 30
PREFIXES_LIMIT: Final = 8 << 30

_WAITING: Final = 64 << 20  # bytes of embeddings that may wait to be written; what comes on top is not
# An embedding is written if encoding it took this many times longer than reading one back. Writing takes several times as long as reading,
# delays the encoding beside it, and is seldom of use: a question about the same frames finds their prefix.
_WORTH: Final = 20
_CLOSE: Final = ""  # in place of a key: the thread ends
_PATIENCE: Final = 0.2  # seconds that closing waits for embeddings still to be written

# Magic, length of the head, length of all before the trailer, sealing digests of the head and of all before the trailer.
_TRAILER: Final = struct.Struct("<8sQQ16s16s")
_MAGIC: Final = b"sagekv03"
_CHUNK: Final = 4 << 20
_POLL_S: Final = 0.0005

# States that take less time to compute than this, or than to read back, are not stored.
_LEAST_S: Final = 0.1
_READ_RATE: Final = 1.5e9  # bytes a second


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


# ---- frame embeddings ----------------------------------------------------------------------------------------------


class Embeddings:
    """Embeddings on disk, written in the background.

    Attributes:
        read_s: seconds to read and check one; ``None`` before the first.
        keeps: whether they are being stored.
    """

    def __init__(self, folder: Path, limit: int, everything: bool) -> None:
        self._folder, self._disk = folder, DiskCache(folder, limit)
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
        report_unused(self._folder, error)


# ---- KV prefixes ---------------------------------------------------------------------------------------------------


class StateFiles:
    """Large files of native state by key, written in the background and verified when read. Errors are logged once and otherwise ignored.

    Args:
        folder: created when needed.
        limit: maximum bytes; the least recently used files are removed first. 0 stores nothing.
        everything: also keep states that were quick to compute or that evict most of the others.
    """

    def __init__(self, folder: Path, limit: int, everything: bool) -> None:
        self._folder, self._limit, self._everything = folder, limit, everything
        self._usable = limit > 0

    def wants(self, key: str, size: int, spent_s: float) -> bool:
        """Whether a state of ``size`` bytes that took ``spent_s`` seconds to compute should be saved under ``key``."""
        quick = spent_s < _LEAST_S + size / _READ_RATE
        if not self._usable or size > (self._limit if self._everything else self._limit // 2) or (quick and not self._everything):
            return False
        return not self._path(key).exists()

    def load(self, key: str, load: Callable[[Path], bool]) -> bool:
        """Let ``load`` read the file stored under ``key``.

        The length and the head, whose damage could abort the process, are verified first, the rest while ``load`` reads. A damaged file
        is reported and removed.

        Returns:
            Whether an undamaged file of this key was read. If not, discard what ``load`` may have read.
        """
        path = self._path(key)
        if self._limit <= 0 or not path.is_file():
            return False
        try:
            if _is_good(path, key, load):
                with suppress(OSError):  # a cache that cannot be written is of use, too
                    os.utime(path)
                return True
            report_damaged(self._folder)
            delete([path])
        except OSError as error:
            self._give_up(error)
        return False

    def save(self, key: str, size: int, head: int, write: Callable[[Path], bool]) -> Saving | None:
        """Start storing what ``write`` writes to a path; ``None`` if that is not possible.

        Args:
            size: minimum bytes that it writes.
            head: bytes at the start that are verified before anything is loaded.
        """
        try:
            private_folder(self._folder)
            part = part_of(self._path(key))
            return Saving(part, head, lambda: self._store(key, part, size, head, write))
        except OSError as error:
            self._give_up(error)
            return None

    def _store(self, key: str, part: Path, size: int, head: int, write: Callable[[Path], bool]) -> None:
        try:
            if not write(part) or part.stat().st_size < size:
                raise OSError(f"{part.name} could not be written: is the disk full?")
            with part.open("r+b") as file:
                size = part.stat().st_size
                of_head = _digest(key, file, min(head, size))
                file.seek(0)
                of_all = _digest(key, file, size)
                file.seek(size)
                file.write(_TRAILER.pack(_MAGIC, min(head, size), size, of_head, of_all))
            part.replace(self._path(key))
            trim(self._folder, PREFIXES, self._limit)
        except OSError as error:
            self._give_up(error)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.state"

    def _give_up(self, error: OSError) -> None:
        if self._usable:
            report_unused(self._folder, error)
        self._usable = False


class Saving:
    """A state that a thread is writing."""

    def __init__(self, part: Path, head: int, store: Callable[[], None]) -> None:
        self._part, self._head = part, head
        self._thread = background(store, "sage-prefix")

    def wait_for_head(self) -> None:
        """Wait until more than the head is written."""
        while self._thread.is_alive():
            with suppress(OSError):  # not there yet
                if self._part.stat().st_size > self._head:
                    return
            time.sleep(_POLL_S)

    def wait(self) -> None:
        """Wait until the file is complete, or has failed."""
        self._thread.join()


def _is_good(path: Path, key: str, load: Callable[[Path], bool]) -> bool:
    """Whether ``load`` read a file whose digests are right; it is not called where the length or the head is wrong."""
    size = path.stat().st_size - _TRAILER.size
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        magic, head, whole, of_head, of_all = _TRAILER.unpack(file.read(_TRAILER.size))
        file.seek(0)
        if magic != _MAGIC or whole != size or head > size or _digest(key, file, head) != of_head:
            return False
    found: list[bytes] = []

    def check() -> None:
        with suppress(OSError), path.open("rb") as file:
            found.append(_digest(key, file, size))

    thread = background(check, "sage-check")
    try:
        loaded = load(path)
    finally:
        thread.join()
    return loaded and found == [of_all]


def _digest(key: str, file: BinaryIO, size: int) -> bytes:
    """Sealing digest of the next ``size`` bytes of a file, or of what is left of it."""
    found, buffer = digest(key), memoryview(bytearray(min(size, _CHUNK)))
    while size > 0 and (count := file.readinto(buffer[:size])):  # type: ignore[attr-defined]
        found.update(buffer[:count])
        size -= count
    return found.digest()
