"""Folders and files that only this user can use: what a private video says is as private as the questions about it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from sage_cli.store.paths import own_folders


def private_folder(folder: Path) -> None:
    """Make a folder with its missing parents. The platform's folders for sage are closed to others, whatever the umask; below a folder that
    the user named, which others may share, the umask decides.

    Raises:
        OSError: it cannot be made.
    """
    for own in {folder, *folder.parents} & own_folders():
        own.parent.mkdir(parents=True, exist_ok=True)
        if is_ours(own.parent.stat()):  # not root at work in the home of a user, who could open it no more
            own.mkdir(mode=0o700, exist_ok=True)
            close(own)
    folder.mkdir(parents=True, exist_ok=True)


def private_file(path: Path) -> None:
    """Make an empty file that only this user can read, with its folder, unless it is there.

    Raises:
        OSError: it cannot be made.
    """
    private_folder(path.parent)
    with suppress(FileExistsError):  # or another process made it first
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


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
