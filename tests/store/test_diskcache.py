"""A cache on a corrupt disk: no wrong data, no crash, no hang."""

from __future__ import annotations

import pickle
import random
import sqlite3
from pathlib import Path

import pytest

from sage_cli.store.diskcache import DATABASE, DiskCache, drop, open_cache, seal, unseal

LARGE = bytes(range(256)) * 400  # goes into a file of its own
RIGHT = [*(str(number).encode() for number in range(20)), LARGE]


def filled(folder: Path) -> Path:
    cache = DiskCache(folder, 1 << 30)
    for value in RIGHT:
        assert cache.use(lambda cache, value=value: cache.set(value[:4].decode("latin-1"), seal(value)))  # type: ignore[misc]
    cache.close()
    return folder / DATABASE


def read(folder: Path) -> list[bytes | None]:
    cache = DiskCache(folder, 1 << 30)
    found = [unseal(cache.use(lambda cache, value=value: cache.get(value[:4].decode("latin-1")))) for value in RIGHT]  # type: ignore[misc]
    cache.use(lambda cache: cache.set("new", b"x"))
    cache.close()
    return found


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


def test_a_locked_database_is_done_without(tmp_path: Path) -> None:
    database = filled(tmp_path / "cache")
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    cache = DiskCache(tmp_path / "cache", 1 << 30)
    assert cache.use(lambda cache: cache.get("1")) is None
    assert not cache.usable
    holder.close()
    assert read(tmp_path / "cache")[1] == b"1"  # it was not dropped for that


@pytest.mark.parametrize("place", ["", DATABASE])
def test_something_else_in_its_place(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "cache"
    if place:
        (folder / place).mkdir(parents=True)
    else:
        folder.write_text("a file")
    cache = DiskCache(folder, 1 << 30)
    assert cache.use(lambda cache: cache.get("1")) is None
    assert not cache.usable


def test_a_limit_of_nothing_touches_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache", 0)
    assert cache.use(lambda cache: cache.set("1", b"x")) is None
    assert not (tmp_path / "cache").exists()


def test_every_changed_byte_breaks_a_seal() -> None:
    sealed = seal(b"some data")
    assert unseal(sealed) == b"some data"
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        assert unseal(bytes(changed)) is None
    for other in (None, b"", "text", 7, sealed[:-1], sealed + b"x"):
        assert unseal(other) is None


def test_dropping_what_is_there(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    (tmp_path / "kept").write_text("x")
    (tmp_path / "cache" / "link").symlink_to(tmp_path / "kept")
    assert drop(tmp_path / "cache") > len(LARGE)
    assert drop(tmp_path / "cache") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    open_cache(tmp_path / "cache", 1 << 20).close()
