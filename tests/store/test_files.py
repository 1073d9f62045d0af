from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from sage_cli.store.files import named, part_of, sweep, trim, unfinished, write_whole

STATES = re.compile(r"\d\.state")


def test_files_that_were_not_used_for_longest_go_until_the_others_fit(tmp_path: Path) -> None:
    for age, size in enumerate((100, 100, 300, 10)):
        path = tmp_path / f"{9 - age}.state"
        path.write_bytes(b"x" * size)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "other").write_bytes(b"x" * 1000)
    trim(tmp_path, STATES, 510)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6.state", "7.state", "8.state", "9.state", "other"]
    trim(tmp_path, STATES, 400)  # what was used before a file that does not fit goes, too
    assert sorted(path.name for path in tmp_path.iterdir()) == ["8.state", "9.state", "other"]
    trim(tmp_path, STATES, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    trim(tmp_path / "missing", STATES, 0)


def test_a_folder_in_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "1.state").mkdir()
    trim(tmp_path, STATES, 0)
    assert (tmp_path / "1.state").is_dir()


def test_unfinished_files_count_and_go_when_they_are_abandoned(tmp_path: Path) -> None:
    """Regression: gigabytes that killed processes had begun to write were never counted or removed."""
    live, dead, entry = part_of(tmp_path / "1.state"), part_of(tmp_path / "2.state"), tmp_path / "3.state"
    mine, others = tmp_path / "film.mp4.part", part_of(tmp_path / "film.mp4")
    for path in live, dead, entry, mine, others:
        path.write_bytes(bytes(100))
    for path in dead, mine, others:
        os.utime(path, (time.time() - 2 * 3600,) * 2)
    trim(tmp_path, STATES, 200)
    assert {*tmp_path.iterdir()} == {live, entry, mine, others}
    trim(tmp_path, STATES, 150)
    assert {*tmp_path.iterdir()} == {live, mine, others}
    assert sweep(tmp_path, STATES) == 0
    os.utime(live, (time.time() - 2 * 3600,) * 2)
    assert sweep(tmp_path, STATES) == 100


def test_unfinished_files_of_earlier_versions_are_known(tmp_path: Path) -> None:
    path = tmp_path / "1.state.k3_jx9qz.part"
    path.touch()
    assert [*unfinished(tmp_path, STATES)] == [path]


def test_two_writers_of_one_file_have_a_name_each(tmp_path: Path) -> None:
    """Also in one process, and in containers, where each is process 1."""
    assert part_of(tmp_path / "1.state") != part_of(tmp_path / "1.state")


def test_a_file_is_known_as_unfinished_until_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is swept if its process is killed."""
    known: list[Path] = []
    monkeypatch.setattr(Path, "replace", lambda self, _: known.extend(unfinished(tmp_path, STATES)))
    write_whole(tmp_path / "1.state", b"data")
    assert known == [*tmp_path.iterdir()]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "1.state", b"data")
    assert (tmp_path / "1.state").read_bytes() == b"data"
    (tmp_path / "2.state").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "2.state", b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.state", "2.state"]
    assert [*named(tmp_path, STATES)] == [tmp_path / "1.state"]
