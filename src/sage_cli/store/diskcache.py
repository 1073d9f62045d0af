"""A bounded disk cache that disables itself on I/O errors and empties itself when it is damaged."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from mmap import PAGESIZE, mmap
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Any, Final
from weakref import finalize

from diskcache import Cache, Disk, Timeout
from diskcache.core import MODE_PICKLE

from sage_cli.store.files import RECORDS, delete, report_damaged, report_unused
from sage_cli.store.private import private_folder
from sage_cli.store.seal import seal, unseal

logger = logging.getLogger(__name__)

DATABASE: Final = "cache.db"
_HEX: Final = "[0-9a-f][0-9a-f]"  # a folder of values
_PATIENCE: Final = 2.0  # seconds to wait for another process that holds the database
# What diskcache raises on a database with wrong contents: it believes every column.
DAMAGE: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, AssertionError)


class DiskCache:
    """A diskcache: least recently used out first, shared by processes and threads, safe to delete.

    Values are bytes, never pickled objects, and sealed with their keys: what is damaged or another key's is not found.

    A damaged database is deleted with all its files; the next run starts a new one. Other problems (a full disk, a lock that another
    process keeps) disable the cache for this process. One that cannot be written (in an image, on a read-only volume) is read.

    Args:
        folder: created on first use.
        limit: maximum bytes to keep; 0 keeps none.

    Attributes:
        usable: whether the cache is in use.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self.limit = folder, limit
        self._cache: Cache | _Frozen | None = None
        self._lock = Lock()  # of the two attributes beside it
        self.usable = limit > 0

    def get(self, key: str) -> memoryview | None:
        """The value stored under a key; ``None`` if there is none that can be used. A damaged one is reported and removed."""
        stored = self._use(lambda cache: cache.get(key))
        data = unseal(key, stored)
        if data is None and stored is not None:
            report_damaged(self._folder)
            self.delete(key)
        return data

    def set(self, key: str, value: bytes) -> bool:
        """Store a value; returns whether it was."""
        return bool(self._use(lambda cache: cache.set(key, seal(key, value))))

    def delete(self, key: str) -> None:
        self._use(lambda cache: cache.delete(key))

    def close(self) -> None:
        with self._lock:
            cache, self._cache = self._cache, None
        if cache is not None:
            with suppress(sqlite3.Error):
                cache.close()

    def _use(self, call: Callable[[Any], object]) -> object:
        """The result of a call of diskcache's alone, so that what it raises tells about the database."""
        try:
            cache = self._opened()
            return None if cache is None else call(cache)
        except (sqlite3.OperationalError, Timeout, OSError, MemoryError) as error:
            if "malformed" in str(error):
                self._drop(error)
            else:
                self._disable(error)
        except (sqlite3.Error, *DAMAGE) as error:
            self._drop(error)
        return None

    def _opened(self) -> Cache | _Frozen | None:
        """The cache, for this thread to keep: another may close or disable it meanwhile."""
        with self._lock:
            if self.usable and self._cache is None:
                self._cache = _Frozen(self._folder) if _is_read_only(self._folder) else open_cache(self._folder, self.limit)
            return self._cache if self.usable else None

    def _drop(self, error: Exception) -> None:
        self._disable(error, mends_itself=True)
        drop(self._folder)

    def _disable(self, error: Exception, *, mends_itself: bool = False) -> None:
        with self._lock:
            told, self.usable = not self.usable, False
        if not told:
            if mends_itself:
                logger.info("%s is dropped: %r", self._folder, error)
                report_damaged(self._folder)
            else:
                report_unused(self._folder, error)
        self.close()


def open_cache(folder: Path, limit: int | None = None) -> Cache:
    """A diskcache in a folder.

    Raises:
        sqlite3.Error: its database is damaged, or locked for longer than :data:`_PATIENCE`.
        OSError: the folder cannot be made or written.
    """
    private_folder(folder)
    settings: dict[str, Any] = {} if limit is None else {"size_limit": limit}
    if not _maps_files(folder):
        _end_sharing(folder / DATABASE)
        # A rollback journal waits for the disk several times in each change, and makes other processes wait. What a power cut damages is
        # found, as all damage is.
        settings |= {"sqlite_journal_mode": "delete", "sqlite_synchronous": 0}
    _wait_for_lock(folder / DATABASE)
    return _Cache(str(folder), timeout=_PATIENCE, disk=_PlainDisk, eviction_policy="least-recently-used", cull_limit=2, **settings)


class _Use:
    """The use that one thread makes of a cache: ends with the thread or the cache, and its connection with it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        # Not by __del__: the connection may be collected with this object, and before it.
        finalize(self, _closed, connection).atexit = False


def _closed(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()


class _Cache(Cache):  # type: ignore[misc]
    """Closes the connection of each thread: diskcache leaves that to Python, which warns of it since 3.13."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        try:
            super().__init__(*arguments, **given)
        except BaseException:
            with suppress(AttributeError):  # there is no connection yet
                self.close()
            raise

    @property
    def _con(self) -> sqlite3.Connection:
        """This thread's connection. As diskcache makes it, but any thread may close it: whichever drops the cache, or collects garbage."""
        here: Any = self._local
        if getattr(here, "pid", None) != os.getpid():  # forked
            self.close()
            here.pid = os.getpid()
        if getattr(here, "con", None) is None:
            database = Path(self.directory) / DATABASE
            here.con = sqlite3.connect(database, timeout=self.timeout, isolation_level=None, check_same_thread=False)
            here.use = _Use(here.con)
            try:
                settings = here.con.execute("SELECT key, value FROM Settings").fetchall()
            except sqlite3.OperationalError:  # it is new
                settings = []
            for key, value in settings:
                if key.startswith("sqlite_"):  # connections do not share these
                    self.reset(key, value, update=False)
        return here.con  # type: ignore[no-any-return]


class _PlainDisk(Disk):  # type: ignore[misc]
    """Stores and loads no pickles: anyone who can write to the folder could run code with one."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode == MODE_PICKLE:
            raise ValueError("a pickled value")
        return super().fetch(mode, filename, value, read)


class _Frozen:
    """A diskcache that cannot be written: finds values and changes nothing, not even times of use. Safe for threads."""

    def __init__(self, folder: Path) -> None:
        self._disk: Disk = _PlainDisk(str(folder))
        database = (folder / DATABASE).absolute()
        # SQLite needs files beside the database to share it with a writer. Where there are none, nobody writes.
        shared = database.with_name(f"{DATABASE}-wal").exists()
        self._address = f"{database.as_uri()}?mode=ro{'' if shared else '&immutable=1'}"

    def get(self, key: str) -> object:
        with closing(sqlite3.connect(self._address, uri=True, timeout=_PATIENCE)) as connection:
            row = connection.execute("SELECT mode, filename, value FROM Cache WHERE key = ? AND raw", (key,)).fetchone()
        if row is None:
            return None
        try:
            return self._disk.fetch(*row, False)
        except FileNotFoundError:
            return None

    def set(self, key: str, value: bytes) -> bool:
        return False

    def delete(self, key: str) -> None:
        pass

    def close(self) -> None:
        pass


def _is_read_only(folder: Path) -> bool:
    """Whether there is a database that this process cannot write; SQLite makes files beside one, too."""
    database = folder / DATABASE
    return database.is_file() and not (os.access(database, os.W_OK) and os.access(folder, os.W_OK))


def _maps_files(folder: Path) -> bool:
    """Whether processes can share memory through files there, which diskcache's write-ahead log needs. FUSE with ``direct_io`` cannot."""
    with TemporaryFile(dir=folder) as file:
        file.truncate(PAGESIZE)
        try:
            mmap(file.fileno(), PAGESIZE).close()
        except OSError:
            return False
    return True


def _end_sharing(database: Path) -> None:
    """Give a database that was made elsewhere a rollback journal."""
    with closing(sqlite3.connect(database, timeout=_PATIENCE, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = exclusive")  # first of all: one process alone needs no shared memory
        if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            connection.execute("PRAGMA journal_mode = delete")
            connection.execute("DELETE FROM Settings WHERE key = 'sqlite_journal_mode'")  # diskcache would set it again


def _wait_for_lock(database: Path) -> None:
    """Wait until a database can be written, also a new one: diskcache itself waits 60 seconds for each statement while it opens it."""
    with closing(sqlite3.connect(database, timeout=_PATIENCE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def database_files(folder: Path) -> list[Path]:
    """All files of a diskcache, and no others."""
    found = (path for pattern in ("*", "*/*/*") for path in folder.glob(pattern))
    return [path for path in found if RECORDS.fullmatch(path.relative_to(folder).as_posix())]


def drop(folder: Path) -> int:
    """Delete a cache with all its files, and its folders unless something else is in them.

    Returns:
        Freed bytes. Files that cannot be deleted stay.
    """
    freed = delete(database_files(folder))
    for empty in (*folder.glob(f"{_HEX}/{_HEX}"), *folder.glob(_HEX), folder):
        with suppress(OSError):  # something is in it, or the folder is a link to another disk
            empty.rmdir()
    return freed
