"""The folders, and how the environment moves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sage_cli.store import cache_dir, models_dir


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
