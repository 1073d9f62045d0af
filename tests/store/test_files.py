from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from sage_cli.store.files import named, part_of, sweep, trim, write_whole

STATES = re.compile(r"\d\.state")


def test_files_that_were_not_used_for_longest_go_until_the_others_fit(tmp_path: Path) -> None:
    for age, size in enumerate((100, 100, 300, 10)):
        path = tmp_path / f"{age}.state"
        path.write_bytes(b"x" * size)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "other").write_bytes(b"x" * 1000)
    trim(tmp_path, STATES, 510)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.state", "1.state", "2.state", "3.state", "other"]
    trim(tmp_path, STATES, 400)  # what was used before a file that does not fit goes, too
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.state", "1.state", "other"]
    trim(tmp_path, STATES, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    trim(tmp_path / "missing", STATES, 0)


def test_a_folder_in_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "1.state").mkdir()
    trim(tmp_path, STATES, 0)
    assert (tmp_path / "1.state").is_dir()


def test_unfinished_files_count_and_go_when_they_are_abandoned(tmp_path: Path) -> None:
    """Regression: gigabytes that killed processes had begun to write were never counted or removed."""
    live, dead, entry, mine = part_of(tmp_path / "1.state"), part_of(tmp_path / "2.state"), tmp_path / "3.state", tmp_path / "film.mp4.part"
    for path in live, dead, entry, mine:
        path.write_bytes(bytes(100))
    for path in dead, mine:
        os.utime(path, (time.time() - 2 * 3600,) * 2)
    trim(tmp_path, STATES, 200)
    assert {*tmp_path.iterdir()} == {live, entry, mine}
    trim(tmp_path, STATES, 150)
    assert {*tmp_path.iterdir()} == {live, mine}
    assert sweep(tmp_path, STATES) == 0


def test_two_writers_of_one_file_have_a_name_each(tmp_path: Path) -> None:
    """Also in one process, and in containers, where each is process 1."""
    assert part_of(tmp_path / "1.state") != part_of(tmp_path / "1.state")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "1.state", b"data")
    assert (tmp_path / "1.state").read_bytes() == b"data"
    (tmp_path / "2.state").mkdir()
    with pytest.raises(OSError):
        write_whole(tmp_path / "2.state", b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.state", "2.state"]
    assert [*named(tmp_path, STATES)] == [tmp_path / "1.state"]
