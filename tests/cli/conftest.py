"""Fixtures of the command line's tests: tiny models, a short clip, and ``sage`` as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sage_cli.cli import console, main
from tests.media import make_video, tone
from tests.models import TinyModel, write_qwen2_5_vl, write_qwen3_vl

Popen = subprocess.Popen[str]

# Small enough that a run of the random model takes a moment. One thread: several would spin at each other's barriers beside parallel tests.
SMALL = ["--frames", "2", "--frame-tokens", "16", "--ctx-size", "4096", "--no-tools", "--threads", "1"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_qwen3_vl(tmp_path_factory.mktemp("qwen3-vl"))


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_qwen2_5_vl(tmp_path_factory.mktemp("qwen2.5-vl"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=2, audio=tone(2))


@pytest.fixture(autouse=True)
def _notices_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and workers that run in this process change it for good."""
    monkeypatch.setattr(console, "quiet", False)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment without the user's settings and models, with its own temporary folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SAGE_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"))
    }
    return {
        **kept,
        "SAGE_MODELS_DIR": str(tmp_path / "models"),
        "SAGE_CACHE_DIR": str(tmp_path / "cache"),
        "SAGE_CONFIG": str(tmp_path / "config.toml"),
        "SAGE_LOG_FILE": str(tmp_path / "log.db"),
        "TMPDIR": str(scratch),
    }


@pytest.fixture
def start(environment: dict[str, str]) -> Callable[..., Popen]:
    """Start ``sage`` with the given words; stdout and stderr are pipes unless said otherwise."""

    def start(*words: object, **options: Any) -> Popen:
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "env": environment,
        }
        return subprocess.Popen([sys.executable, "-m", "sage_cli", *map(str, words)], **(settings | options))

    return start


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``sage`` in this process; return its exit code and its line on stderr."""

    def refusal(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sage", *map(str, words)])
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capfd.readouterr()
        assert captured.out == "" or "--json" in words
        return int(stop.value.code or 0), captured.err

    return refusal


@pytest.fixture
def sage(start: Callable[..., Popen]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``sage`` and wait for its end."""

    def run(*words: object, input: str | None = None) -> subprocess.CompletedProcess[str]:
        with start(*words, **({} if input is None else {"stdin": subprocess.PIPE})) as process:
            stdout, stderr = process.communicate(input)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run
