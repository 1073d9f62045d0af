"""A changed file never gets an old fingerprint; an unchanged file is not hashed twice."""

from __future__ import annotations

import mmap
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import psutil
import pytest
from blake3 import blake3

from sage_cli.output import folded
from sage_cli.store import content
from sage_cli.store.content import Content, fingerprint, identify

SIZE = 3_000_000
DATA = bytes(i % 251 for i in range(SIZE))


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table in a separate cache; every file system counts as trusted, wherever the tests run."""
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "_keeps_change_time", lambda folder: True)
    return tmp_path / "cache" / "fingerprints"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files hashed from now on, one entry per reading."""
    names: list[str] = []
    original = content._hash

    def counting(file: BinaryIO, stop: object = None) -> str:
        names.append(Path(file.name).name)
        return original(file)

    monkeypatch.setattr(content, "_hash", counting)
    return names


def hash_file(path: Path) -> str:
    return blake3(path.read_bytes()).hexdigest(length=12)


def wait_for_a_tick() -> None:
    time.sleep(0.12)


def settled(path: Path) -> str:
    """The fingerprint of a file whose last change is long enough ago for the table."""
    path.write_bytes(DATA)
    wait_for_a_tick()
    return fingerprint(path)


@pytest.mark.parametrize("size", [0, 1, 100, 1 << 15, SIZE])
def test_content_is_recognized_under_another_name(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(DATA[:size])
    other.write_bytes(DATA[:size])
    assert fingerprint(one) == fingerprint(other) == hash_file(one)
    assert len(fingerprint(one)) == 24


@pytest.mark.parametrize("at", [0, 12_345, SIZE // 2 + 77, SIZE - 1])
def test_a_byte_overwritten_in_place_with_the_time_put_back_is_noticed(tmp_path: Path, at: int) -> None:
    path = tmp_path / "talk.wav"
    before, stat = settled(path), path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    assert fingerprint(path) != before


def test_a_change_through_a_memory_map_that_was_dirty_already_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[5] = 7
        wait_for_a_tick()
        before = fingerprint(path)
        memory[6] = 7  # in the same page
        assert fingerprint(path) != before


def replaced(path: Path, other: Path) -> None:
    other.replace(path)


def copied_over(path: Path, other: Path) -> None:
    shutil.copy2(other, path)


def linked(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [replaced, copied_over, linked])
def test_another_file_of_the_same_size_and_time_in_its_place_is_noticed(change: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path, other = tmp_path / "talk.wav", tmp_path / "other.wav"
    before, stat = settled(path), path.stat()
    other.write_bytes(DATA[::-1])
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    change(path, other)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (SIZE, stat.st_mtime_ns)
    assert fingerprint(path) == hash_file(path) != before


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "talk.wav"
    found = settled(path)
    assert {fingerprint(path) for _ in range(3)} == {found}
    assert hashed == ["talk.wav"]
    (tmp_path / "link.wav").hardlink_to(path)  # moves the change time
    wait_for_a_tick()
    assert fingerprint(path) == found
    assert fingerprint(tmp_path / "link.wav") == found
    assert hashed == ["talk.wav"] * 2


def test_a_file_younger_than_a_tick_of_its_clock_is_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    now = path.stat().st_ctime_ns
    content._record(path, identify(path).state, "0" * 24, now + 1000)  # as a change within the tick would have left it
    assert fingerprint(path) == hash_file(path)
    assert len(hashed) == 2


def test_times_without_fractions_need_longer_to_settle() -> None:
    second = 1_700_000_000 * 10**9
    assert content._settled(content.FileState(1, 0, second, 2, 3)) - second > 2 * 10**9
    assert content._settled(content.FileState(1, 0, second + 5, 2, 3)) - second < 10**9


def test_a_clock_that_was_set_back_is_not_trusted(tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.wav"
    settled(path)
    past = path.stat().st_ctime_ns - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: past)
    fingerprint(path)
    fingerprint(path)
    assert len(hashed) == 3


def test_a_damaged_entry_is_not_believed(tmp_path: Path, table: Path, hashed: list[str]) -> None:
    path = tmp_path / "talk.wav"
    found = settled(path)
    (entry,) = table.iterdir()
    whole = entry.read_bytes()
    poison = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    poison += [b"", b"[]\n", b"{}", b"[" * 100_000, b"\xff\xfe", b"[null, NaN, 1, 2, 3, 4, 5]\n"]
    for data in poison:
        entry.write_bytes(data)
        assert fingerprint(path) == found
    assert len(hashed) == 1 + len(poison)


def test_a_table_that_cannot_be_used_is_done_without(tmp_path: Path, table: Path) -> None:
    table.parent.mkdir(exist_ok=True)
    table.write_text("in the way")
    path = tmp_path / "talk.wav"
    assert settled(path) == fingerprint(path) == hash_file(path)


def test_nothing_is_kept_where_nothing_may_be(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    wait_for_a_tick()
    found = identify(path, remember=False)
    os.utime(path)
    wait_for_a_tick()
    assert found.still_in(path)
    assert not table.exists()


def test_a_file_that_changes_while_it_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing.ts"
    path.write_bytes(DATA)
    original, left = content._hash, [1]

    def growing(file: BinaryIO, stop: object = None) -> str:
        found = original(file)
        if left[0]:
            left[0] -= 1
            path.write_bytes(path.read_bytes() + b"x")
        return found

    monkeypatch.setattr(content, "_hash", growing)
    assert fingerprint(path) == hash_file(path)  # it was written once, then no more
    left[0] = 1000
    with pytest.raises(OSError, match=r"it is being written.*growing\.ts"):
        fingerprint(path)


def test_content_is_still_there_after_a_new_name_and_gone_after_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(DATA)
    held: Content = identify(path)
    assert held.still_in(path)
    os.utime(path, (1, 1))
    assert held.still_in(path)
    path.write_bytes(DATA[::-1])
    assert not held.still_in(path)


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


MOUNTS = {
    "linux": [
        Mount("/", "ext4"),
        Mount("/tmp", "tmpfs"),
        Mount("/media/SD card", "vfat"),
        Mount("/mnt/nas", "nfs4"),
        Mount("/mnt/nas", "fuse.sshfs"),
        Mount("/mnt/a\u2028b\x85c\rd\udcffe", "vfat"),
    ],
    "darwin": [
        Mount("/", "apfs"),
        Mount("/System/Volumes/Data", "apfs"),
        Mount("/Volumes/SD card (x)", "exfat"),
        Mount("/Volumes/a\u2028b\x85c\rd\udcffe", "exfat"),
    ],
}


@pytest.mark.parametrize(
    ("platform", "folder", "honest"),
    [
        ("linux", "/home/me", True),
        ("linux", "/tmpfoo", True),
        ("linux", "/tmp/x", False),
        ("linux", "/media/SD card/DCIM", False),
        ("linux", "/mnt/nas", False),
        ("linux", "/mnt/a\u2028b\x85c\rd\udcffe/DCIM", False),
        ("darwin", "/System/Volumes/Data/Users/me", True),
        ("darwin", "/Volumes/SD card (x)/DCIM", False),
        ("darwin", "/volumes/sd CARD (x)/DCIM", False),
        ("darwin", "/Volumes/a\u2028b\x85c\rd\udcffe/DCIM", False),
    ],
)
def test_file_systems_without_a_change_time_of_their_own_are_not_trusted(
    platform: str, folder: str, honest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_given: MOUNTS[platform])
    if platform == "darwin":  # which finds folders in any letter case
        monkeypatch.setattr(content, "same_folder", lambda one, other: folded(str(one)) == folded(str(other)))
    content._keeps_change_time.cache_clear()
    assert content._keeps_change_time(folder) is honest
    monkeypatch.undo()
    content._keeps_change_time.cache_clear()
