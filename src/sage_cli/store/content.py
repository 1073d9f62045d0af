"""Identifies file contents: by a hash of the whole file, which is remembered while the file is unchanged.

**The guarantee.** :func:`fingerprint` gives the hash of the file's current content. A remembered hash is used only if size, modification
time, change time, inode and device are all the same as when the file was hashed. Every write, truncation or replacement updates the
change time, and so does restoring the modification time; only the system clock sets it. A file that changed so recently that another
change could have the same change time is not remembered, as git does with "racily clean" files: see :func:`_settled`. If the clock was
set back since, or the file system has no real change time (FAT, exFAT, FUSE, tmpfs), the file is hashed each time.

On Windows, Python has no change time: an edit that keeps the size and restores the modification time is not noticed.
"""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import BinaryIO, Final

from blake3 import blake3

from sage_cli.output import same_folder
from sage_cli.signals import check_interrupted
from sage_cli.store.paths import cache_dir
from sage_cli.store.seal import read_sealed, write_sealed

_BYTES: Final = 12
_CHUNK: Final = 1 << 20  # read at once; Ctrl-C is handled between two
_TRIES: Final = 3  # at hashing a file that changes meanwhile

# A file system's clock ticks at least this often: every few milliseconds, where times have fractions of a second at all; else FAT's 2 s.
_TICK: Final = 100_000_000
_COARSE_TICK: Final = 2_500_000_000

# Waiting for the next tick is quicker than hashing so many bytes again.
_WORTH_WAITING: Final = 256 << 20

# Pages written through a memory map do not move the change time again until the kernel has cleaned them: half a minute on Linux.
_UNCLEAN: Final = 60_000_000_000

# File systems on which every change moves the change time.
_HONEST: Final = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "nilfs2", "overlay", "virtiofs"),
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ntfs3", "apfs", "hfs"),
}


@dataclass(frozen=True, slots=True)
class FileState:
    """Properties that change whenever a file does. Times are in nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int
    device: int

    @classmethod
    def of(cls, file: Path | int) -> FileState:
        """The state of a path or of an open file.

        Raises:
            OSError: there is no such file.
        """
        stat = os.stat(file)  # noqa: PTH116
        # Windows has the time of creation in place of the time of change; it does no harm.
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)


@dataclass(frozen=True, slots=True)
class Content:
    """A file's fingerprint, its state at the time, and whether the table is used for it."""

    fingerprint: str
    state: FileState
    remember: bool = True

    def still_in(self, path: Path) -> bool:
        """Whether there is a file at ``path`` that has this content now. Reads it only if its state differs."""
        try:
            state = FileState.of(path)
            return state == self.state or (state.size == self.state.size and fingerprint(path, remember=self.remember) == self.fingerprint)
        except OSError:
            return False


def fingerprint(path: Path, *, remember: bool = True) -> str:
    """Identity of a file's content, 24 hexadecimal digits: the same under any name, another after any edit.

    Args:
        remember: use the table on disk, so that a file that has not changed is not read again.

    Raises:
        OSError: the file cannot be read, or is being written.
    """
    return identify(path, remember=remember).fingerprint


def identify(path: Path, stop: Event | None = None, *, remember: bool = True) -> Content:
    """The fingerprint with the file's state; see :func:`fingerprint`.

    Args:
        stop: set by another thread to stop, with an :class:`InterruptedError`.
    """
    state = FileState.of(path)
    if remember and (known := _recall(path, state)) is not None:
        return Content(known, state)
    for _ in range(_TRIES):
        if state.size >= _WORTH_WAITING and 0 < (missing := _settled(state) - time.time_ns()) <= _COARSE_TICK:
            time.sleep(missing / 1e9)
        with path.open("rb", buffering=0) as file:
            began = time.time_ns()
            if abs(began - FileState.of(file.fileno()).changed) < _UNCLEAN:
                with suppress(OSError):
                    os.fsync(file.fileno())
            state = FileState.of(file.fileno())
            found = _hash(file, stop)
        if FileState.of(path) == state:
            if remember:
                _record(path, state, found, began)
            return Content(found, state, remember)
        state = FileState.of(path)
    raise OSError(errno.EBUSY, "it is being written; try again when it is complete", str(path))


def _hash(file: BinaryIO, stop: Event | None = None) -> str:
    digest = blake3(max_threads=blake3.AUTO)
    while data := file.read(_CHUNK):
        if stop is not None and stop.is_set():
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR), file.name)
        check_interrupted()
        digest.update(data)
    return digest.hexdigest(length=_BYTES)


# ---- the table -----------------------------------------------------------------------------------------------------


def _settled(state: FileState) -> int:
    """The time (ns) after which any change gives the file another state, because its clock has ticked."""
    changed = state.modified if os.name == "nt" else state.changed
    return changed + (_TICK if changed % 1_000_000_000 else _COARSE_TICK)


def _entry(state: FileState) -> Path:
    return cache_dir() / "fingerprints" / blake3(f"{state.device}:{state.inode}".encode()).hexdigest(length=_BYTES)


def _recall(path: Path, state: FileState) -> str | None:
    """The fingerprint remembered for this state; None if there is any doubt."""
    if (stored := read_sealed(_entry(state))) is None:
        return None
    found, hashed, *known = json.loads(stored)
    if known != [*astuple(state)] or not _settled(state) <= hashed <= time.time_ns():
        return None
    return str(found) if _keeps_change_time(str(path.resolve().parent)) else None


def _record(path: Path, state: FileState, found: str, began: int) -> None:
    """Remember a fingerprint, if it can be trusted later. Does nothing if the table cannot be written."""
    if _settled(state) > began or not _keeps_change_time(str(path.resolve().parent)):
        return
    with suppress(OSError):
        write_sealed(_entry(state), json.dumps([found, began, *astuple(state)]).encode())


@lru_cache(maxsize=64)
def _keeps_change_time(folder: str) -> bool:
    """Whether the file system that a folder is on moves a file's change time with every change."""
    if os.name == "nt":
        return True  # there is none: see the top
    import psutil  # not at the top: it takes longer to import than all of this

    with suppress(OSError):
        mounts = psutil.disk_partitions(all=True)
        for parent in (Path(folder), *Path(folder).parents):
            if kinds := [mount.fstype for mount in mounts if same_folder(Path(mount.mountpoint), parent)]:
                return kinds[-1] in _HONEST  # of two in one place, the later one hides the other
    return False
