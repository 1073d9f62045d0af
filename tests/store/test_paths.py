"""The folders, and how the environment moves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sage_cli.store import cache_dir, models_dir
from sage_cli.store.cache import entries


def test_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SAGE_MODELS_DIR", "~/models")
    assert cache_dir() == tmp_path / "cache"
    assert models_dir() == Path.home() / "models"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms have other rules")
def test_folders_follow_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "SAGE_CACHE_DIR", "SAGE_MODELS_DIR":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    assert cache_dir() == tmp_path / "c" / "sage-cli"
    assert models_dir() == tmp_path / "d" / "sage-cli" / "models"


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGE_CACHE_DIR", "cache")
    assert cache_dir() == tmp_path / "cache"
    assert entries() == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become an unknown user")
def test_an_unknown_user_without_a_home() -> None:
    """As in a container that runs as some number: what the variables name is used, else they are asked for."""
    code = """
import os
from sage_cli.errors import SageError
from sage_cli.store import cache_dir, models_dir
os.environ.pop("HOME", None)
for name in [name for name in os.environ if name.startswith(("XDG_", "SAGE_"))]:
    del os.environ[name]
os.environ["SAGE_CACHE_DIR"] = "/c"
os.setuid(54321)
print(cache_dir())
for value in None, "~/models":
    if value:
        os.environ["SAGE_MODELS_DIR"] = value
    try:
        print(models_dir())
    except SageError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    folder, first, second = done.stdout.splitlines()
    assert folder == "/c"
    assert first == second == "this user has no home folder: set SAGE_MODELS_DIR to the path that it would have there"


@pytest.mark.skipif(os.name == "nt", reason="sets a limit of POSIX")
def test_scratch_that_cannot_be_written() -> None:
    # Not by permissions, which the superuser does not heed: no file may grow past 0 bytes.
    code = """
import resource
from sage_cli.errors import SageError
from sage_cli.store import check_scratch
check_scratch()
import tempfile
tempfile.tempdir = None
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    check_scratch()
except SageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no folder for temporary files can be written")
