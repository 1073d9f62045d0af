"""What lies in the cache folder, whoever put it there: looked at, and thrown away oldest first.

The rooms that fill the cache keep their own order in it; each kind is described once, in :data:`KINDS`, by how its entries are found. A new
kind of cached thing is a new line there. What belongs to one video carries the video's content id in its name or key.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from stat import S_ISREG
from typing import Final

from sage_cli.store.diskcache import DAMAGE, DATABASE, drop, open_cache
from sage_cli.store.paths import cache_dir

_MEDIA: Final = "media"  # folder: for each content id, where that video was last seen
_STALE: Final = 24 * 3600  # seconds after which an unfinished file belongs to nobody


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached thing.

    Attributes:
        key: a file's name, or the key in a database.
        size: in bytes.
        used: when it was last used, in seconds since the epoch.
        media: content id of the video it was made from; ``""`` if that cannot be told.
    """

    kind: str
    key: str
    size: int
    used: float
    media: str


@dataclass(frozen=True, slots=True)
class Kind(ABC):
    """A kind of cached things, all in one folder.

    Attributes:
        name: of the folder.
        about: what it is, for people.
        media: finds the content id in a key; its first group.
    """

    name: str
    about: str
    media: str = r"(?!)"

    @property
    def folder(self) -> Path:
        return cache_dir() / self.name

    def entry(self, key: str, size: int, used: float) -> Entry:
        match = re.search(self.media, key)
        return Entry(self.name, key, size, used, match[1] if match else "")

    @abstractmethod
    def entries(self) -> Iterator[Entry]: ...

    @abstractmethod
    def remove(self, entries: Iterable[Entry]) -> None: ...

    def sweep(self) -> int:
        """Remove what was never finished; the bytes that frees."""
        return 0

    def reset(self) -> int:
        """Remove the whole folder, also what is damaged beyond being listed; the bytes that frees."""
        return drop(self.folder)


@dataclass(frozen=True, slots=True)
class Files(Kind):
    """A file for each."""

    pattern: str = "*"

    def entries(self) -> Iterator[Entry]:
        for path in sorted(self.folder.glob(self.pattern)):
            with suppress(OSError):  # it has gone since
                stat = path.lstat()
                if S_ISREG(stat.st_mode):
                    yield self.entry(path.name, stat.st_size, max(stat.st_mtime, stat.st_atime))

    def remove(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            with suppress(OSError):  # it has gone since, or something else has its name
                (self.folder / entry.key).unlink()

    def sweep(self) -> int:
        return _sweep(self.folder.glob("*.part"))


@dataclass(frozen=True, slots=True)
class Records(Kind):
    """A diskcache: a database, with files for what is large. Read here by SQL, which needs no lock and changes no time of use."""

    def entries(self) -> Iterator[Entry]:
        database = self.folder / DATABASE
        if not database.is_file():
            return
        columns = "SELECT key, max(size, length(coalesce(value, ''))), access_time FROM Cache WHERE raw"
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            for key, size, used in connection.execute(columns):
                with suppress(TypeError, ValueError, OverflowError):  # a damaged database: 'clear' removes it whole
                    yield self.entry(str(key), max(0, int(size)), float(used) if isfinite(float(used)) else 0.0)

    def remove(self, entries: Iterable[Entry]) -> None:
        from diskcache import Timeout

        with suppress(sqlite3.Error, Timeout, OSError, *DAMAGE), open_cache(self.folder) as cache:
            for entry in entries:
                cache.delete(entry.key)


KINDS: Final[tuple[Kind, ...]] = (
    Files("transcripts", "transcribed speech", r"^([0-9a-f]{24})-", "*.jsonl"),
    Records("times", "frame times", r"^([0-9a-f]{24})@"),
    Records("embeddings", "frame embeddings", r"([0-9a-f]{24})@"),
    Files("prefixes", "saved KV prefixes", pattern="*.state"),
    Files("web", "search results and web pages", pattern="*.json"),
    Files("fingerprints", "hashes of unchanged files", pattern="*.json"),
)


def entries() -> list[Entry]:
    """All that is cached, the longest unused first."""
    return sorted((entry for kind in KINDS for entry in kind.entries()), key=lambda entry: entry.used)


def remove(unwanted: Iterable[Entry]) -> int:
    """Throw entries away.

    Returns:
        Their bytes.
    """
    chosen = list(unwanted)
    for kind in KINDS:
        if mine := [entry for entry in chosen if entry.kind == kind.name]:
            kind.remove(mine)
    return sum(entry.size for entry in chosen)


def trim(limit: int, *, older_than: float = 0.0) -> int:
    """Throw away what was left unfinished, and what :func:`surplus` finds.

    Returns:
        Bytes that were freed.
    """
    return sum(kind.sweep() for kind in KINDS) + remove(surplus(limit, older_than=older_than))


def surplus(limit: int, *, older_than: float = 0.0) -> list[Entry]:
    """What is older than a time, and then the longest unused until the rest is within the limit.

    Args:
        limit: bytes that may stay.
        older_than: seconds since the epoch; what was used later than that is kept, if the limit allows.
    """
    found = entries()
    total = sum(entry.size for entry in found)
    unwanted = []
    for entry in found:
        if entry.used < older_than or total > limit:
            unwanted.append(entry)
            total -= entry.size
    return unwanted


# ---- names of videos -----------------------------------------------------------------------------------------------


def note_media(media: str, path: Path) -> None:
    """Remember where a video lies, so that what is cached of it can be shown by name. A cache that cannot be written is done without."""
    with suppress(OSError):
        note = cache_dir() / _MEDIA / media
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_bytes(os.fsencode(path.resolve()))


def media_paths() -> dict[str, Path]:
    """Where videos were last seen, by content id."""
    found = {}
    for note in (cache_dir() / _MEDIA).glob("*"):
        with suppress(OSError, ValueError):
            found[note.name] = Path(os.fsdecode(note.read_bytes()))
    return found


def forget_media(but: Iterable[str] = ()) -> None:
    """Forget where videos lie, except those."""
    kept = set(but)
    for note in (cache_dir() / _MEDIA).glob("*"):
        if note.name not in kept:
            with suppress(OSError):
                note.unlink()


def _sweep(paths: Iterable[Path]) -> int:
    freed = 0
    for path in paths:
        with suppress(OSError):
            stat = path.stat()
            if stat.st_mtime < time.time() - _STALE:
                path.unlink()
                freed += stat.st_size
    return freed
