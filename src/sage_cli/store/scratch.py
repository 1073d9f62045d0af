"""Temporary folders that are removed at the end of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from sage_cli.store.private import close, is_ours

_PREFIX: Final = "run-"
_ALONE: Final = "sage-cli-"  # where there can be no private folder for all
_LOCK: Final = ".sage-scratch"
_NEW: Final = 60.0  # seconds before a folder without a lock counts as abandoned
_TRIES: Final = 8


@contextmanager
def scratch_folder(base: Path | None = None) -> Iterator[Path]:
    """A temporary folder, removed when the block ends.

    A killed process (SIGKILL, a power cut) cannot clean up: its folder is removed when the next one is made. Folders in use hold a lock,
    which the system releases when the process ends. All of them are in one folder that belongs to this user and holds nothing else; on
    disks without permissions they are beside it, and known by their lock. What users keep there is never taken for one of them.

    Args:
        base: where that folder is made; ``None`` is the system's place for temporary files.

    Raises:
        OSError: it cannot be made; ``filename`` names the place.
    """
    base = base or Path(tempfile.gettempdir())
    sweep(base)
    try:
        with _make(base) as name, FileLock(Path(name) / _LOCK):
            yield Path(name)
    finally:
        with suppress(OSError):  # others are in it
            _parent(base).rmdir()


def sweep(base: Path) -> int:
    """Remove what killed processes of this user left; return the freed bytes."""
    parent, freed = _parent(base), 0
    with suppress(OSError):
        private = close(parent)
        for folder in parent.glob(f"{_PREFIX}*") if private else ():
            with suppress(OSError):
                if not (folder / _LOCK).is_file() and _is_old(folder):
                    folder.rmdir()  # only if it is empty: killed before it was locked
            freed += _sweep(folder)
        for folder in base.glob(f"{_ALONE}*"):
            with suppress(OSError):
                if folder != parent and is_ours(folder.lstat()):
                    freed += _sweep(folder)
    return freed


def _sweep(folder: Path) -> int:
    """Remove a folder with our lock that nobody holds; return the freed bytes."""
    with suppress(OSError, Timeout):
        if _is_old(folder) and (folder / _LOCK).is_file():
            with FileLock(folder / _LOCK, timeout=0):
                freed = sum(path.lstat().st_size for path in folder.rglob("*"))
                shutil.rmtree(folder, ignore_errors=True)
                return freed
    return 0


def _is_old(folder: Path) -> bool:
    return time.time() - folder.lstat().st_mtime >= _NEW


def _parent(base: Path) -> Path:
    return base / (f"sage-cli-{os.getuid()}" if hasattr(os, "getuid") else "sage-cli")


def _make(base: Path) -> tempfile.TemporaryDirectory[str]:
    parent = _parent(base)
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            parent.mkdir(mode=0o700)
        if not close(parent):
            break
        with suppress(FileNotFoundError):  # another run has just ended and removed it
            return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True)
    # Somebody else's, or a disk without permissions: a folder of its own.
    return tempfile.TemporaryDirectory(prefix=_ALONE, dir=base, ignore_cleanup_errors=True)
