"""The files of the cache: what they are called, how they appear whole, and how a folder of them keeps to a size.

The cache may be put into any folder, and its parts behind links, so users' files can be beside ours. Only files whose names fit a pattern
here are deleted; the names contain digests, so that nobody else's do.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from sage_cli.errors import NOTICES

_MEDIA: Final = "(?P<media>[0-9a-f]{24})"  # fingerprint of the video that an entry was made from

MEDIA_NOTES: Final = re.compile(_MEDIA)
TRANSCRIPTS: Final = re.compile(rf"{_MEDIA}(-\d+)?-[0-9a-f]{{16}}-(\d+|language)\.jsonl")
DAMAGE_NOTES: Final = re.compile(rf"{_MEDIA}-(video|audio)-[0-9a-f]{{8}}")
PREFIXES: Final = re.compile(rf"{_MEDIA}-[0-9a-f]{{32}}\.state")
WEB: Final = re.compile(r"[0-9a-f]{32}(\.json)?")  # earlier versions wrote a suffix
LINKS: Final = re.compile(r"[0-9a-f]{24}\..+")  # yt-dlp names captions and unfinished parts
LINK_LOCKS: Final = re.compile(r"\.[0-9a-f]{24}\.lock")
FINGERPRINTS: Final = re.compile(r"[0-9a-f]{24}(\.json)?")
SPEEDS: Final = re.compile(r"speeds(\.json)?")
RECORD_KEYS: Final = re.compile(rf"(?s:.*?){_MEDIA}@")  # after the model's identity, in an embedding's
RECORDS: Final = re.compile(
    r"cache\.db(-journal|-shm|-wal)?|[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val"
)  # diskcache's, in a folder of its own

_PART: Final = re.compile(r"(.+)\.[0-9a-z_]{8}\.part")  # earlier versions used more letters
_ABANDONED: Final = 3600.0  # seconds without a write after which an unfinished file is nobody's


def report_unused(folder: Path, error: Exception) -> None:
    """Log that a cache cannot be used. The words are the same for all: those of a run are in one place, and one line tells of that."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    NOTICES.warning("the cache in %s is not used: %s; if this persists, set SAGE_CACHE_DIR to a folder on another disk", folder, reason)


def report_damaged(folder: Path) -> None:
    """Log that entries of a cache are damaged. Whoever finds one removes it, so that the next run does not meet it again."""
    NOTICES.warning("the cache in %s has damaged entries, which are replaced; if this persists, check the disk", folder)


def named(folder: Path, *patterns: re.Pattern[str]) -> Iterator[Path]:
    """The regular files in a folder whose names fit a pattern."""
    for path in sorted(folder.glob("*")):
        if any(pattern.fullmatch(path.name) for pattern in patterns):
            with suppress(OSError):  # it has gone since
                if S_ISREG(path.lstat().st_mode):
                    yield path


def unfinished(folder: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    """Files that are being written under a name of the pattern, or were when their process was killed."""
    return (path for path in named(folder, _PART) if (match := _PART.fullmatch(path.name)) and pattern.fullmatch(match[1]))


def part_of(path: Path) -> Path:
    """A new name for a file until it is complete."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")


def read_file(path: Path) -> bytes:
    """The bytes of a regular file. A pipe under its name would be waited for.

    Raises:
        OSError: it cannot be read, or is not one.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path.read_bytes()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that only this user can read; it appears complete or not at all.

    Raises:
        OSError: it cannot be written.
    """
    part = part_of(path)
    try:
        part.touch(0o600, exist_ok=False)
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sweep(folder: Path, pattern: re.Pattern[str]) -> int:
    """Delete unfinished files that nobody writes any more; return the freed bytes."""
    return delete(path for path in unfinished(folder, pattern) if _is_abandoned(path))


def trim(folder: Path, pattern: re.Pattern[str], limit: int) -> None:
    """Delete abandoned files, and those not used for longest, until the others fit. Other processes may do the same at the same time.

    Args:
        pattern: of the names of all files that count. Those being written count too.
        limit: in bytes.
    """
    sweep(folder, pattern)
    kept = sum(_size(path) for path in unfinished(folder, pattern))
    found = []
    for path in named(folder, pattern):
        with suppress(OSError):  # another process was faster
            stat = path.lstat()
            found.append((stat.st_mtime, stat.st_size, path))
    for _, size, path in sorted(found, reverse=True):
        kept += size
        if kept > limit:
            delete([path])


def delete(paths: Iterable[Path]) -> int:
    """Delete files; return the freed bytes. Those that cannot be deleted stay."""
    freed = 0
    for path in paths:
        with suppress(OSError):
            size = path.lstat().st_size
            path.unlink()
            freed += size
    return freed


def total(paths: Iterable[Path]) -> int:
    """Bytes of files."""
    return sum(map(_size, paths))


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _is_abandoned(path: Path) -> bool:
    with suppress(OSError):
        return path.lstat().st_mtime < time.time() - _ABANDONED
    return False
