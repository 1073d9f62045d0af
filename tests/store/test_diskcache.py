"""A cache on a corrupt disk: no wrong data, no crash, no hang."""

from __future__ import annotations

import errno
import gc
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import pytest

from sage_cli.store.diskcache import DATABASE, DiskCache, drop, open_cache

LARGE = bytes(range(256)) * 400  # goes into a file of its own
RIGHT = [*(str(number).encode() for number in range(20)), LARGE]


def filled(folder: Path) -> Path:
    cache = DiskCache(folder, 1 << 30)
    for value in RIGHT:
        assert cache.set(value[:4].decode("latin-1"), value)
    cache.close()
    return folder / DATABASE


def read(folder: Path) -> list[bytes | None]:
    cache = DiskCache(folder, 1 << 30)
    found = [cache.get(value[:4].decode("latin-1")) for value in RIGHT]
    cache.set("new", b"x")
    cache.close()
    return [None if value is None else bytes(value) for value in found]


def test_random_bytes_in_the_database(tmp_path: Path) -> None:
    """Each entry comes back as it was or not at all."""
    whole = filled(tmp_path / "cache").read_bytes()
    rng = random.Random(4)
    for trial in range(60):
        folder = tmp_path / str(trial)
        folder.mkdir()
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 8, 200))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (folder / DATABASE).write_bytes(damaged if trial % 7 else damaged[: rng.randrange(len(damaged))])
        for found, expected in zip(read(folder), RIGHT, strict=True):
            assert found in (None, expected)


@pytest.mark.parametrize(
    "poison",
    [
        "UPDATE Cache SET value = 7, mode = 1",
        "UPDATE Cache SET mode = 99",
        "UPDATE Cache SET mode = 'x', filename = 5",
        "UPDATE Cache SET size = 'x', access_time = 'y', expire_time = 'z'",
        "UPDATE Cache SET filename = '/dev/zero/x', mode = 2, value = NULL",
        "UPDATE Settings SET value = 'x'",
        "DELETE FROM Settings",
        "DROP TABLE Cache",
    ],
)
def test_wrong_types_in_the_database(tmp_path: Path, poison: str) -> None:
    database = filled(tmp_path / "cache")
    with sqlite3.connect(database) as connection:
        connection.execute(poison)
    connection.close()
    for _ in range(3):
        for found, expected in zip(read(tmp_path / "cache"), RIGHT, strict=True):
            assert found in (None, expected)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return Path("trapped").touch, ()


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = filled(tmp_path / "cache")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE Cache SET mode = 4, value = ?", (pickle.dumps(Trap()),))
    connection.close()
    assert read(tmp_path / "cache")[:3] == [None] * 3
    assert not (tmp_path / "trapped").exists()


def test_a_damaged_value_is_told_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(filled(tmp_path / "cache")) as connection:
        connection.execute("UPDATE Cache SET value = x'00' WHERE key = '1'")
    connection.close()
    for _ in range(2):
        assert read(tmp_path / "cache")[:3] == [b"0", None, b"2"]
    assert ["has damaged entries" in line for line in caplog.messages] == [True]


def test_a_deleted_value_is_gone(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    cache.delete("1")
    cache.close()
    assert read(tmp_path / "cache")[:3] == [b"0", None, b"2"]


def test_a_locked_database_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = filled(tmp_path / "cache")
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    assert cache.get("1") is None
    assert not cache.usable
    assert cache.get("2") is None
    assert [str(tmp_path / "cache") in line for line in caplog.messages] == [True], "it is told, and once"
    holder.close()
    assert read(tmp_path / "cache")[1] == b"1"  # it was not dropped for that


def test_a_file_system_without_locks_costs_no_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: diskcache itself waits 60 seconds for each statement of a new database."""

    class Locked(sqlite3.Connection):
        def execute(self, *_: Any) -> Any:
            raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Locked))
    monkeypatch.setattr("diskcache.Cache.__init__", lambda *_, **__: pytest.fail("it waits"))
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    assert (cache.get("1"), cache.usable) == (None, False)
    assert "database is locked" in caplog.text


def test_where_files_cannot_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write-ahead log needs that. A database that has one, from another file system, is read and loses it."""
    database = filled(tmp_path / "cache")
    assert database.read_bytes()[18] == 2  # https://sqlite.org/fileformat.html

    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("sage_cli.store.diskcache.mmap", refuse)
    for folder in "cache", "new":
        cache = DiskCache(tmp_path / folder, 1 << 30)
        assert cache.set("another", b"x")
        assert sorted(path.name for path in (tmp_path / folder).glob("cache.db*")) == [DATABASE], "while it is in use"
        cache.close()
        assert (tmp_path / folder / DATABASE).read_bytes()[18] == 1
    assert read(tmp_path / "cache") == RIGHT


@pytest.mark.parametrize("place", ["", DATABASE])
def test_something_else_in_its_place(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "cache"
    if place:
        (folder / place).mkdir(parents=True)
    else:
        folder.write_text("a file")
    cache = DiskCache(folder, 1 << 30)
    assert cache.get("1") is None
    assert not cache.usable


def test_a_limit_of_nothing_touches_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", 0)
    assert not cache.set("1", b"x")
    assert not (tmp_path / "cache").exists()


def test_a_value_under_another_key_is_not_found(tmp_path: Path) -> None:
    database = filled(tmp_path / "cache")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE Cache SET key = CASE key WHEN '1' THEN 'x' WHEN '2' THEN '1' ELSE '2' END WHERE key IN ('1', '2')")
        connection.execute("UPDATE Cache SET key = '2' WHERE key = 'x'")
    connection.close()
    assert read(tmp_path / "cache")[:4] == [b"0", None, None, b"3"]


def test_only_its_own_files_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    filled(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    (tmp_path / "kept").write_text("x")
    (folder / "link").symlink_to(tmp_path / "kept")
    (folder / "ab").mkdir(exist_ok=True)
    (folder / "ab" / "notes.val").write_text("mine")
    assert drop(folder) == size > len(LARGE)
    assert drop(folder) == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["ab", "cache", "kept", "link", "notes.val"]
    open_cache(folder, 1 << 20).close()


def test_a_folder_on_another_disk_stays_linked(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    filled(tmp_path / "cache")
    drop(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert (tmp_path / "cache").is_symlink()
    filled(tmp_path / "empty")
    drop(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


class Interleaved(Thread):
    """Reads from a cache, and has another thread disable it before a given line of the cache's code runs."""

    def __init__(self, cache: DiskCache, line: int) -> None:
        super().__init__()
        self.cache, self.line, self.value = cache, line, object()
        self.other = Thread(target=lambda: cache._disable(sqlite3.OperationalError("database is locked")))

    def run(self) -> None:
        sys.settrace(self._trace)
        self.value = self.cache.get("1")
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _value: object) -> Callable[..., Any] | None:
        if Path(frame.f_code.co_filename).name != "diskcache.py" or frame.f_code.co_name in ("_con", "__init__", "__del__"):
            return None  # each connection belongs to one thread
        if event == "line":
            self.line -= 1
            if self.line == 0:
                self.other.start()
                self.other.join(0.05)  # it may have to wait for this thread
        return self._trace


def test_one_thread_disables_what_another_uses(tmp_path: Path) -> None:
    """Regression: a database that was busy for a moment was taken for a damaged one, and all of it was deleted."""
    filled(tmp_path / "cache")
    for line in range(1, 40):
        reader = Interleaved(DiskCache(tmp_path / "cache", 1 << 30), line)
        reader.start()
        reader.join()
        if reader.line > 0:  # fewer lines run
            break
        reader.other.join()
        assert reader.value in (None, b"1")
        assert not reader.cache.usable
        assert read(tmp_path / "cache")[1] == b"1"
    assert 5 < line < 39


def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = filled(tmp_path / "cache")
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO Cache (key, raw, mode, value) SELECT 'evil', 1, 4, ?", (pickle.dumps("x"),))
    connection.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("sage_cli.store.diskcache.os.access", lambda *_: False)  # tests may run as root, who can write everywhere
    assert read(tmp_path / "cache") == RIGHT
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    assert (cache.get("new"), cache.set("new", b"x"), cache.usable) == (None, False, True)
    cache.delete(RIGHT[0].decode())
    assert read(tmp_path / "cache")[0] == RIGHT[0]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.setattr("sage_cli.store.diskcache.drop", lambda _: 0)
    assert (cache.get("evil"), cache.usable) == (None, False)


def test_a_cache_on_a_read_only_file_system_is_read(tmp_path: Path) -> None:
    """Mounted in a namespace of its own."""
    filled(tmp_path / "cache")
    program = (
        "import sys\nfrom pathlib import Path\nfrom sage_cli.store.diskcache import DiskCache\n"
        "cache = DiskCache(Path(sys.argv[1]), 1 << 30)\nprint(bytes(cache.get('7')), cache.set('new', b'x'))\n"
    )
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path / "cache"), sys.executable, program]
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("b'7' False\n", "")


class Connection(sqlite3.Connection):
    closed = False

    def close(self) -> None:
        super().close()
        self.closed = True


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """All that are made."""
    made: list[Connection] = []
    connect: Callable[..., Connection] = sqlite3.connect

    def recording(*arguments: Any, **given: Any) -> Connection:
        made.append(connect(*arguments, **given, factory=Connection))
        return made[-1]

    monkeypatch.setattr(sqlite3, "connect", recording)
    return made


@pytest.mark.parametrize("damaged", [False, True], ids=["sound", "damaged"])
def test_connections_end_with_their_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: list[Connection], damaged: bool
) -> None:
    DiskCache(tmp_path, 1 << 20).set("a", b"b")
    if damaged:
        monkeypatch.setattr("sage_cli.store.diskcache._wait_for_lock", lambda database: None)  # it would find it first
        (tmp_path / DATABASE).write_bytes(b"no database" * 1000)
    connections.clear()
    cache = DiskCache(tmp_path, 1 << 20)
    thread = Thread(target=cache.get, args=("a",))
    thread.start()
    thread.join()
    assert connections
    assert all(connection.closed for connection in connections)


def test_connections_end_with_a_cache_that_another_thread_drops(tmp_path: Path, connections: list[Connection]) -> None:
    """Also as garbage, which whichever thread makes objects collects."""
    cache: Any = DiskCache(tmp_path, 1 << 20)
    assert cache.set("a", b"b")
    cache.itself = cache
    del cache
    thread = Thread(target=gc.collect)
    thread.start()
    thread.join()
    assert connections
    assert all(connection.closed for connection in connections)
