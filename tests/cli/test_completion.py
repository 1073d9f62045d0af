"""Completions, requested the way shells do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sage_cli.session.options import settable

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(environment: dict[str, str], tmp_path: Path) -> Complete:
    """Completions that bash shows after an incomplete line, in a folder with some files."""
    folder = tmp_path / "here"
    (folder / "videos").mkdir(parents=True)
    for name in "talk.mp4", "song.FLAC", "notes.txt", ".hidden.mp4", "videos/film.mkv":
        (folder / name).touch()
    (Path(environment["SAGE_MODELS_DIR"]) / "mine").mkdir(parents=True)
    (Path(environment["SAGE_MODELS_DIR"]) / "mine" / "model.gguf").touch()

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        asked = {"_SAGE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = subprocess.run(
            [sys.executable, "-m", "sage_cli"], env=environment | asked, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("sage mo", ["models"]),
        ("sage models pu", ["pull"]),
        ("sage models pull qwen3-vl-", ["qwen3-vl-8b", "qwen3-vl-4b", "qwen3-vl-2b"]),
        ("sage models rm ", ["mine"]),
        ("sage ask v.mp4 what --model m", ["mine"]),
        ("sage ask v.mp4 what --kv-type ", ["f16", "q8_0"]),
        ("sage ask t", ["talk.mp4"]),
        ("sage ask ", ["song.FLAC", "talk.mp4", "videos/"]),
        ("sage transcribe videos/", ["videos/film.mkv"]),
        ("sage ask nowhere/", []),
        ("sage config set fr", ["frames", "frame-tokens", "frame-size"]),
        ("sage config get ", list(settable())),
        ("sage cache clear --kind we", ["web"]),
        ("sage help scr", ["scripting"]),
        ("sage models pull --up", ["--update"]),
    ],
)
def test_bash(complete: Complete, line: str, shown: list[str]) -> None:
    assert complete(line) == shown


def test_a_broken_settings_file_breaks_no_prompt(complete: Complete, environment: dict[str, str]) -> None:
    Path(environment["SAGE_CONFIG"]).write_text("frmes = ")
    assert complete("sage config get fra") == ["frames", "frame-tokens", "frame-size"]
    environment["SAGE_MODELS_DIR"] = environment["SAGE_CONFIG"]
    assert "qwen3-vl-2b" in complete("sage models pull ")
