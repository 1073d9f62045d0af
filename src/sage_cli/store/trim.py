"""Folders of limited size."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def trim(folder: Path, pattern: str, limit: int) -> None:
    """Delete the files that were not used for longest, until the others fit. Other processes may do the same at the same time.

    Args:
        pattern: of the names of all files that count.
        limit: in bytes.
    """
    found = []
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process was faster
            stat = path.lstat()
            found.append((stat.st_mtime, stat.st_size, path))
    kept = 0
    for _, size, path in sorted(found, reverse=True):
        kept += size
        if kept > limit:
            with suppress(OSError):  # as above, or a folder in place of a file
                path.unlink()
