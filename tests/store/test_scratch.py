"""A run leaves no temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
        age(left)
        with scratch_folder():
            assert (left / "media").exists()  # its process lives
        process.kill()
    assert left.exists()
    with scratch_folder() as own:
        assert [*parent.iterdir()] == [own]


def test_only_an_abandoned_folder_of_ours_goes(parent: Path) -> None:
    for name in "sage-something", "sage-k1lledxx", "sage-unlocked/file", "other":
        (parent / name).mkdir(parents=True)
        age(parent / name.partition("/")[0])
    (parent / "sage-new_0000").mkdir()
    (parent / "sage-filefile").write_text("x")
    with scratch_folder():
        pass
    left = sorted(path.name for path in parent.iterdir())
    assert left == ["other", "sage-filefile", "sage-new_0000", "sage-something", "sage-unlocked"]
