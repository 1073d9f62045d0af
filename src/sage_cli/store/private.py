"""Folders that only this user can use: what a private video says is as private as the questions about it."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from sage_cli.store.paths import own_folders


def private_folder(folder: Path, *names: re.Pattern[str]) -> None:
    """Make a folder with its missing parents, all of them for this user alone, whatever the umask.

    Of those that are there, sage's own are closed to others: the platform's folders for sage, and ``folder`` if it holds nothing but sage's
    files. The others, and links, are the user's, and stay as they are.

    Args:
        names: of sage's files in it, or the beginnings of their names.

    Raises:
        OSError: it cannot be made.
    """
    _make(folder)
    with suppress(OSError):  # it cannot be looked into
        if names and _is_open(folder.lstat()) and all(any(name.match(path.name) for name in names) for path in folder.iterdir()):
            close(folder)
    for own in {folder, *folder.parents} & own_folders():
        close(own)


def close(folder: Path) -> bool:
    """Close a folder of this user to others; return whether it is one, no link, that others cannot use."""
    try:
        found = folder.lstat()
        if is_ours(found) and _is_open(found):
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # not what has been put in its place since
            try:
                if is_ours(os.fstat(opened)):
                    os.fchmod(opened, 0o700)
            finally:
                os.close(opened)
            found = folder.lstat()
    except OSError:
        return False
    return is_ours(found) and not _is_open(found)


def is_ours(found: os.stat_result) -> bool:
    """Whether it is a folder of this user, and no link to one."""
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())


def _is_open(found: os.stat_result) -> bool:
    """Whether others can use it, where the system knows such permissions."""
    return hasattr(os, "getuid") and bool(found.st_mode & 0o077)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileNotFoundError:
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:  # it is there; on a disk that is only read, another error may say so
        if not folder.is_dir():
            raise
