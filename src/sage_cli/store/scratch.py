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

_PREFIX: Final = "sage-"
_LOCK: Final = ".lock"
_NEW: Final = 60.0  # seconds before a folder without a lock counts as abandoned


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, removed when the block ends.

    A killed process (SIGKILL, a power cut) cannot clean up: its folder is removed when the next one is made. Folders in use hold a lock,
    which the system releases when the process ends.

    Raises:
        OSError: it cannot be made; ``filename`` names the place.
    """
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def _sweep(parent: Path) -> None:
    """Remove folders left by killed processes of this user."""
    for folder in parent.glob(_PREFIX + "?" * 8):  # as tempfile names them
        with suppress(OSError, Timeout):
            stat = folder.lstat()
            if time.time() - stat.st_mtime < _NEW or (hasattr(os, "getuid") and stat.st_uid != os.getuid()):
                continue
            if (folder / _LOCK).is_file():
                with FileLock(folder / _LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.rmdir()  # only if it is empty: killed before it was locked
