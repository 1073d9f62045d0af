"""A run leaves no temporary files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from sage_cli.store.scratch import scratch_folder


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    then = time.time() - 3600
    os.utime(folder, (then, then))


def test_gone_with_its_block(parent: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        _ = 1 / 0
    assert not list(parent.iterdir())


def test_what_a_killed_process_left_goes_with_the_next(parent: Path) -> None:
    program = (
        "import time\nfrom sage_cli.store.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n    (folder / 'media').write_bytes(bytes(1000))\n    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(parent)}) as process:
        assert process.stdout
        left = Path(process.stdout.readline().strip())
        empty = left.with_name("run-killed_early")
        empty.mkdir()
        age(left)
        age(empty)
        with scratch_folder():
            assert (left / "media").exists()  # its process lives
            assert not empty.exists()
        process.kill()
    assert left.exists()
    with scratch_folder() as own:
        assert [*own.parent.iterdir()] == [own]
        assert own.parent.stat().st_mode & 0o777 == 0o700
    assert not list(parent.iterdir())


def test_folders_of_users_stay(parent: Path) -> None:
    """Regression: folders called ``sage-`` and eight more characters were removed with their lock, or when they were empty."""
    for name in "sage-baseline", "sage-videos01", "run-12345678":
        (parent / name).mkdir()
    (parent / "sage-baseline" / ".lock").touch()  # as `sage bench` leaves it
    (parent / "sage-baseline" / "results.jsonl").write_text("{}")
    for folder in parent.iterdir():
        age(folder)
    with scratch_folder():
        pass
    assert sorted(path.name for path in parent.rglob("*")) == [".lock", "results.jsonl", "run-12345678", "sage-baseline", "sage-videos01"]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_place_that_others_may_write_to_is_not_used(parent: Path, tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    with scratch_folder() as folder:
        place = folder.parent
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    if kind == "link":
        place.symlink_to(elsewhere)
    else:
        place.touch()
    if kind != "file":
        (elsewhere / "run-theirs01").mkdir()
        age(elsewhere / "run-theirs01")
    with scratch_folder() as folder:
        assert folder.parent == parent
    assert not folder.exists()
    assert kind == "file" or (elsewhere / "run-theirs01").exists()


def test_a_place_of_ours_is_closed_to_others(parent: Path) -> None:
    """Regression: folders beside it piled up after kills."""
    with scratch_folder() as folder:
        place = folder.parent
    place.mkdir()
    place.chmod(0o755)
    with scratch_folder() as folder:
        assert folder.parent == place
        assert place.stat().st_mode & 0o777 == 0o700


def test_what_is_left_on_a_disk_without_permissions_is_swept(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch_folder() as folder:
        place = folder.parent
    place.mkdir()
    place.chmod(0o755)
    monkeypatch.setattr(os, "fchmod", lambda *_: None)  # as exFAT does
    (parent / "sage-cli-videos").mkdir()
    (parent / "sage-cli-videos" / "talk.mp4").touch()
    age(parent / "sage-cli-videos")
    with scratch_folder() as used:
        assert used.parent == parent
        shutil.copytree(used, left := parent / "sage-cli-abcd1234")  # its process was killed
        age(left)
        age(used)
        with scratch_folder():
            assert used.exists()
        assert not left.exists()
    assert sorted(path.name for path in parent.iterdir()) == ["sage-cli-videos"]


def test_another_run_may_remove_the_empty_place(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = tempfile.TemporaryDirectory, []

    def slow(**options: Any) -> Any:
        calls.append(options["dir"])
        if len(calls) == 1:
            options["dir"].rmdir()  # as a run that has just ended
        return real(**options)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", slow)
    with scratch_folder() as folder:
        assert folder.parent == calls[0] == calls[1]
