"""The contents of the cache folder, for listing and for removing the oldest entries.

Each package stores its entries in its own way; :data:`KINDS` describes once how the entries of each kind are found. A new kind is a new
line there. Entries made from a video have its fingerprint in their name or key.
"""

from __future__ import annotations

import os
import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final

from diskcache import Timeout

from sage_cli.store import scratch
from sage_cli.store.diskcache import DAMAGE, DATABASE, database_files, drop, open_cache
from sage_cli.store.files import (
    DAMAGE_NOTES,
    FINGERPRINTS,
    LINK_LOCKS,
    LINKS,
    MEDIA_NOTES,
    PREFIXES,
    RECORD_KEYS,
    SPEEDS,
    TRANSCRIPTS,
    WEB,
    delete,
    named,
    sweep,
    unfinished,
)
from sage_cli.store.paths import cache_dir
from sage_cli.store.seal import read_sealed, write_sealed

_MEDIA: Final = "media"  # folder: for each fingerprint, the path where that video was last seen


@dataclass(frozen=True, slots=True)
class Entry:
    """A cache entry.

    Attributes:
        key: a file's name, or the key in a database.
        size: in bytes.
        used: time of last use, in seconds since the epoch.
        media: fingerprint of the video it was made from; ``""`` if unknown.
    """

    kind: str
    key: str
    size: int
    used: float
    media: str


@dataclass(frozen=True, slots=True)
class Kind(ABC):
    """A kind of cache entries, all in one folder.

    Attributes:
        name: of the folder.
        about: description for people.
        names: of its entries; a group ``media`` is the fingerprint of the video.
    """

    name: str
    about: str
    names: re.Pattern[str]

    @property
    def folder(self) -> Path:
        return cache_dir() / self.name

    def entry(self, key: str, size: int, used: float) -> Entry:
        match = self.names.match(key)
        return Entry(self.name, key, size, used, match.groupdict().get("media", "") if match else "")

    @abstractmethod
    def entries(self) -> Iterator[Entry]: ...

    @abstractmethod
    def remove(self, entries: Iterable[Entry]) -> None: ...

    @abstractmethod
    def files(self) -> list[Path]:
        """All files that this kind makes, entries or not, damaged or not. Others may be beside them."""

    def sweep(self) -> int:
        """Remove abandoned files; return the freed bytes."""
        return 0

    def reset(self) -> int:
        """Remove all :meth:`files`, and the folder unless it is a link or has others in it; return the freed bytes."""
        freed = delete(self.files())
        with suppress(OSError):
            self.folder.rmdir()
        return freed


@dataclass(frozen=True, slots=True)
class Files(Kind):
    """One file per entry.

    Attributes:
        locks: names of other files.
    """

    locks: re.Pattern[str] = re.compile(r"(?!)")

    def entries(self) -> Iterator[Entry]:
        for path in named(self.folder, self.names):
            with suppress(OSError):  # it has gone since
                stat = path.lstat()
                yield self.entry(path.name, stat.st_size, max(stat.st_mtime, stat.st_atime))

    def remove(self, entries: Iterable[Entry]) -> None:
        delete(self.folder / entry.key for entry in entries)

    def files(self) -> list[Path]:
        return [*named(self.folder, self.names, self.locks), *unfinished(self.folder, self.names)]

    def sweep(self) -> int:
        return sweep(self.folder, self.names)


@dataclass(frozen=True, slots=True)
class Records(Kind):
    """A diskcache: a database, with files for large values. Read by SQL here, which needs no lock and does not update times of use."""

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
        with suppress(sqlite3.Error, Timeout, OSError, *DAMAGE), open_cache(self.folder) as cache:
            for entry in entries:
                cache.delete(entry.key)

    def files(self) -> list[Path]:
        return database_files(self.folder)

    def reset(self) -> int:
        return drop(self.folder)


KINDS: Final[tuple[Kind, ...]] = (
    Files("transcripts", "transcribed speech", TRANSCRIPTS),
    Records("times", "frame times", RECORD_KEYS),
    Files("damage", "damage found in videos", DAMAGE_NOTES),
    Records("embeddings", "frame embeddings", RECORD_KEYS),
    Files("prefixes", "saved KV prefixes", PREFIXES),
    Records("summaries", "summaries of chapters", RECORD_KEYS),
    Files("web", "search results and web pages", WEB),
    Files("links", "downloaded videos", LINKS, LINK_LOCKS),
    Files("fingerprints", "hashes of unchanged files", FINGERPRINTS),
    Files("speeds", "measured speeds", SPEEDS),
)


def entries() -> list[Entry]:
    """All entries, the longest unused first."""
    return sorted((entry for kind in KINDS for entry in kind.entries()), key=lambda entry: entry.used)


def remove(unwanted: Iterable[Entry]) -> int:
    """Remove entries.

    Returns:
        Freed bytes.
    """
    chosen = list(unwanted)
    for kind in KINDS:
        if mine := [entry for entry in chosen if entry.kind == kind.name]:
            kind.remove(mine)
    return sum(entry.size for entry in chosen)


def trim(limit: int, *, older_than: float = 0.0) -> int:
    """Remove unfinished files, and what :func:`surplus` finds.

    Returns:
        Freed bytes.
    """
    return scratch.sweep(cache_dir()) + sum(kind.sweep() for kind in KINDS) + remove(surplus(limit, older_than=older_than))


def surplus(limit: int, *, older_than: float = 0.0) -> list[Entry]:
    """Entries unused since a time, then the longest unused ones until the rest is within the limit.

    Args:
        limit: maximum bytes to keep.
        older_than: seconds since the epoch; entries used later are kept, if the limit allows.
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
    """Record the path of a video, so that its entries can be shown by name. Does nothing if the cache cannot be written."""
    with suppress(OSError):
        write_sealed(cache_dir() / _MEDIA / media, os.fsencode(path.resolve()))


def media_paths() -> dict[str, Path]:
    """The paths where videos were last seen, by fingerprint."""
    found = {}
    for note in named(cache_dir() / _MEDIA, MEDIA_NOTES):
        if path := read_sealed(note):
            found[note.name] = Path(os.fsdecode(path))
    return found


def forget_media(but: Iterable[str] = ()) -> None:
    """Forget the paths of all other videos."""
    kept, folder = set(but), cache_dir() / _MEDIA
    sweep(folder, MEDIA_NOTES)
    delete(note for note in named(folder, MEDIA_NOTES) if note.name not in kept)
    with suppress(OSError):  # others are in it
        folder.rmdir()
