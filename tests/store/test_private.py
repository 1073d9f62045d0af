"""What a private video says is nobody else's business."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage_cli.store import cache_dir
from sage_cli.store.files import TRANSCRIPTS
from sage_cli.store.paths import log_path
from sage_cli.store.private import private_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")

NAMES = re.compile(r"[0-9]+\.note"), re.compile(r"[a-f]{2}\Z")


@pytest.fixture(autouse=True)
def everybody() -> Iterator[None]:
    """A umask under which all that is made is everybody's."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_every_part_that_is_made_is_private(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir(mode=0o755)
    private_folder(tmp_path / "given" / "a" / "b" / "c", *NAMES)
    assert [mode(tmp_path / "given" / path) for path in ("", "a", "a/b", "a/b/c")] == [0o755, 0o700, 0o700, 0o700]
    (tmp_path / "file").touch()
    for blocked in tmp_path / "file", tmp_path / "file" / "folder":
        with pytest.raises(OSError):
            private_folder(blocked)


def test_a_folder_of_ours_is_closed_and_others_stay(tmp_path: Path) -> None:
    ours, theirs, linked = tmp_path / "ours", tmp_path / "theirs", tmp_path / "linked"
    for folder in ours, theirs:
        (folder / "ab").mkdir(parents=True, mode=0o755)
        (folder / "1.note").touch()
        (folder / "2.note.x1y2z3a4.part").touch()
        folder.chmod(0o755)
    (theirs / "index.html").touch()
    linked.symlink_to(ours)
    for folder in linked, theirs:
        private_folder(folder, *NAMES)
        assert mode(folder) == 0o755
    private_folder(ours)
    assert mode(ours) == 0o755
    private_folder(ours, *NAMES)
    assert mode(ours) == 0o700
    assert mode(tmp_path) == 0o700


def test_the_platforms_folders_for_sage_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    for name in "SAGE_CACHE_DIR", "SAGE_LOG_FILE":
        monkeypatch.delenv(name, raising=False)
    for folder in cache_dir() / "transcripts", log_path().parent:
        folder.mkdir(parents=True)
        (folder / "of a user").touch()
        private_folder(folder, TRANSCRIPTS)
    assert (mode(cache_dir()), mode(log_path().parent)) == (0o700, 0o700)
    assert (mode(cache_dir() / "transcripts"), mode(tmp_path / "c")) == (0o777, 0o777)


def test_a_disk_that_is_only_read_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    (tmp_path / "kept").mkdir(mode=0o755)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    private_folder(tmp_path / "kept", *NAMES)
    with pytest.raises(OSError):
        private_folder(tmp_path / "new", *NAMES)
