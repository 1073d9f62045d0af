from __future__ import annotations

import os
from pathlib import Path

from sage_cli.store.trim import trim


def test_files_that_were_not_used_for_longest_go_until_the_others_fit(tmp_path: Path) -> None:
    for age, size in enumerate((100, 100, 300, 10)):
        path = tmp_path / f"{age}.state"
        path.write_bytes(b"x" * size)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "other").write_bytes(b"x" * 1000)
    trim(tmp_path, "*.state", 510)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.state", "1.state", "2.state", "3.state", "other"]
    trim(tmp_path, "*.state", 400)  # what was used before a file that does not fit goes, too
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.state", "1.state", "other"]
    trim(tmp_path, "*.state", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    trim(tmp_path / "missing", "*", 0)


def test_a_folder_in_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.state").mkdir()
    trim(tmp_path, "*.state", 0)
    assert (tmp_path / "a.state").is_dir()
