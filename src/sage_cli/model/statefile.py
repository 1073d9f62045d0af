"""Large files of native state in a folder of limited size, written in the background and verified when read."""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from sage_cli.hardware.threads import background
from sage_cli.store.files import PREFIXES, part_of, report_unused, trim
from sage_cli.store.private import private_folder
from sage_cli.store.seal import digest

logger = logging.getLogger(__name__)

_TRAILER: Final = struct.Struct("<8sQ16s16s")  # magic, length of the head, sealing digests of the head and of all before the trailer
_MAGIC: Final = b"sagekv02"
_CHUNK: Final = 4 << 20
_POLL_S: Final = 0.0005

# States that take less time to compute than this, or than to read back, are not stored.
_LEAST_S: Final = 0.1
_READ_RATE: Final = 1.5e9  # bytes a second


class StateFiles:
    """State files by key. Write errors are logged once and otherwise ignored.

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

        The head, whose damage could abort the process, is verified first, the rest while ``load`` reads.

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
            logger.warning("a saved KV prefix cannot be read; it is computed again")
            path.unlink()
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
                file.write(_TRAILER.pack(_MAGIC, min(head, size), of_head, of_all))
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
    """Whether ``load`` read a file whose digests are right; it is not called where that of the head is wrong."""
    size = path.stat().st_size - _TRAILER.size
    if size < 0:
        return False
    with path.open("rb") as file:
        file.seek(size)
        magic, head, of_head, of_all = _TRAILER.unpack(file.read(_TRAILER.size))
        file.seek(0)
        if magic != _MAGIC or head > size or _digest(key, file, head) != of_head:
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
