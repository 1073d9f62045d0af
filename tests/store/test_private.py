"""What a private video says is nobody else's business."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage_cli.store import cache_dir
from sage_cli.store.paths import log_path
from sage_cli.store.private import private_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")


@pytest.fixture(autouse=True)
def everybody() -> Iterator[None]:
    """A umask under which all that is made is everybody's."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_umask_decides_below_a_folder_that_the_user_named(tmp_path: Path) -> None:
    private_folder(tmp_path / "shared" / "a")
    assert [mode(tmp_path / path) for path in ("shared", "shared/a")] == [0o777, 0o777]
    (tmp_path / "file").touch()
    for blocked in tmp_path / "file", tmp_path / "file" / "folder":
        with pytest.raises(OSError):
            private_folder(blocked)


def test_the_platforms_folders_for_sage_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    for name in "SAGE_CACHE_DIR", "SAGE_LOG_FILE":
        monkeypatch.delenv(name, raising=False)
    cache_dir().mkdir(parents=True)  # by an older version
    for folder in cache_dir() / "transcripts", log_path().parent:
        private_folder(folder)
    assert (mode(cache_dir()), mode(log_path().parent)) == (0o700, 0o700)
    assert mode(tmp_path / "c") == 0o777


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can work in the home of another user")
def test_root_locks_nobody_out_of_his_own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SAGE_CACHE_DIR", raising=False)
    os.chown(tmp_path, 65534, 65534)
    private_folder(cache_dir() / "transcripts")
    assert mode(cache_dir()) == 0o777


def test_a_disk_that_is_only_read_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    def mkdir(folder: Path, *_: object, exist_ok: bool = False, **__: object) -> None:
        if not (exist_ok and folder.is_dir()):
            refuse()

    (tmp_path / "kept").mkdir(mode=0o755)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(os, "fchmod", refuse)
    private_folder(tmp_path / "kept")
    with pytest.raises(OSError):
        private_folder(tmp_path / "new")
