"""A bounded disk cache that disables itself on I/O errors and empties itself when it is damaged."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from diskcache import Cache

logger = logging.getLogger(__name__)

T = TypeVar("T")

DATABASE: Final = "cache.db"
_SEAL: Final = 16  # bytes of digest
_PATIENCE: Final = 2.0  # seconds to wait for another process that holds the database
# What diskcache raises on a database with wrong contents: it believes every column.
DAMAGE: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, AssertionError)


class DiskCache:
    """A diskcache: least recently used out first, shared by processes and threads, safe to delete.

    Values are text, numbers or bytes, never pickled objects. Readers must check them: a damaged disk can change them.

    Args:
        folder: created on first use.
        limit: maximum bytes to keep; 0 keeps none.

    Attributes:
        usable: whether the cache is in use.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self.limit = folder, limit
        self._cache: Cache | None = None
        self.usable = limit > 0

    def use(self, action: Callable[[Cache], T]) -> T | None:
        """The result of ``action`` on the cache, or ``None`` if the cache cannot be used.

        A damaged database is deleted with all its files; the next run starts a new one. Other problems (a full disk, a lock that
        another process keeps) disable the cache for this process.
        """
        if not self.usable:
            return None
        from diskcache import Timeout  # not at the top: reading a video without a cache need not wait for this import

        try:
            if self._cache is None:
                self._cache = open_cache(self._folder, self.limit)
            return action(self._cache)
        except (sqlite3.OperationalError, Timeout, OSError, MemoryError) as error:
            if "malformed" in str(error):
                self._drop(error)
            else:
                self._disable(error)
        except (sqlite3.Error, *DAMAGE) as error:
            self._drop(error)
        return None

    def close(self) -> None:
        if self._cache is not None:
            with suppress(sqlite3.Error):
                self._cache.close()
            self._cache = None

    def _drop(self, error: Exception) -> None:
        self._disable(error)
        drop(self._folder)

    def _disable(self, error: Exception) -> None:
        logger.warning("the cache in %s is not used: %s", self._folder, error or type(error).__name__)
        self.usable = False
        self.close()


def open_cache(folder: Path, limit: int | None = None) -> Cache:
    """A diskcache in a folder.

    Raises:
        sqlite3.Error: its database is damaged, or locked for longer than :data:`_PATIENCE`.
        OSError: the folder cannot be made or written.
    """
    from diskcache import Cache, Disk

    class Plain(Disk):  # type: ignore[misc]
        """Stores and loads no pickles: anyone who can write to the folder could run code with one."""

        def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
            if mode == _PICKLED:
                raise ValueError("a pickled value")
            return super().fetch(mode, filename, value, read)

    _wait_for_lock(folder / DATABASE)
    settings: dict[str, Any] = {} if limit is None else {"size_limit": limit}
    return Cache(str(folder), timeout=_PATIENCE, disk=Plain, eviction_policy="least-recently-used", cull_limit=2, **settings)


_PICKLED: Final = 4  # diskcache.core.MODE_PICKLE


def _wait_for_lock(database: Path) -> None:
    """diskcache itself waits 60 seconds for a locked database."""
    if database.is_file():
        with closing(sqlite3.connect(database, timeout=_PATIENCE, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")


def drop(folder: Path) -> int:
    """Delete a cache folder and everything in it.

    Returns:
        Freed bytes. Files that cannot be deleted stay.
    """
    freed = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            freed += path.lstat().st_size if not path.is_dir() or path.is_symlink() else 0
    shutil.rmtree(folder, ignore_errors=True) if folder.is_dir() and not folder.is_symlink() else folder.unlink(missing_ok=True)
    return freed


def seal(data: bytes) -> bytes:
    """Prefix data with a digest, which :func:`unseal` checks."""
    return hashlib.blake2b(data, digest_size=_SEAL).digest() + data


def unseal(sealed: object) -> bytes | None:
    """The sealed data; ``None`` if it is damaged or was never sealed."""
    if not isinstance(sealed, bytes) or seal(sealed[_SEAL:]) != sealed:
        return None
    return sealed[_SEAL:]
