"""The commands of training end with one line on stderr and an exit code where the user can act. Needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from training.entry import end_with

ROOT = Path(__file__).parents[2]
# The module's name, with torch and its kind not installed.
BARE = """
import runpy, sys
sys.modules.update(dict.fromkeys(["torch", "transformers", "tokenizers", "gguf", "accelerate", "matplotlib"]))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def ends(*words: str, bare: bool = False) -> tuple[int, str]:
    command = [sys.executable, "-c", BARE, *words] if bare else [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"})
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.splitlines()[-1] if done.stderr else ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["training", "all", "--preset", "smoke", "--out", "{tmp}"],
            "there is no module torch: install the extra 'train' (uv sync --extra train)",
        ),
        (["training.qwen", "sft", "--out", "{tmp}", "--data", "{tmp}"], "there is no module torch: install the extra 'train'"),
        (["training", "all", "--preset", "nope"], "--preset nope: there is no such preset; the presets are nano, "),
        (["training.qwen", "sft", "--preset", "nope", "--out", "{tmp}"], "--preset nope: there is no such preset"),
        (["training", "all", "--preset", "{tmp}/odd.toml"], "odd.toml: sft.stepps: extra inputs are not permitted"),
        (["training", "all", "--preset", "{tmp}/bad.toml"], "bad.toml: not TOML: "),
        (["training", "all", "--preset", "smoke", "--ablations", "nope"], "--ablations nope: the preset smoke has "),
    ],
)
def test_wrong_arguments_and_missing_extras_are_one_line(words: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("\ufeff[sft]\nstepps = 1\n", encoding="utf-8")
    (tmp_path / "bad.toml").write_text("[sft\n", encoding="utf-8")
    code, said = ends(*(word.format(tmp=tmp_path) for word in words), bare=True)
    assert (code, said[:17]) == (2, "training: error: ")
    assert line in said


@pytest.mark.parametrize("words", [["--deadline", "-5"], ["--deadline", "nan"], ["--workers", "-1"]])
def test_numbers_that_mean_nothing_are_refused(words: list[str], tmp_path: Path) -> None:
    code, said = ends("training", "all", "--preset", "smoke", "--out", str(tmp_path), *words, bare=True)
    assert (code, f"{words[1]}: it should be" in said) == (2, True)


def test_a_missing_checkpoint_is_not_looked_for_at_the_hub(tmp_path: Path) -> None:
    (tmp_path / "trajectories.jsonl").touch()
    words = ["training.qwen", "sft", "--data", str(tmp_path), "--out", str(tmp_path), "--checkpoint", "build/nope"]
    assert ends(*words, bare=True) == (2, "training: error: --checkpoint build/nope: there is no such folder")


def test_help_needs_no_extra() -> None:
    for module in ("training", "training.qwen", "training.clips"):
        assert ends(module, "--help", bare=True) == (0, "")


def test_scores_of_no_run(tmp_path: Path) -> None:
    assert ends("training", "scores", "smoke") == (2, "python -m training scores: error: argument NAME=FOLDER: smoke: write NAME=FOLDER")
    code, said = ends("training", "scores", f"a={tmp_path / 'nope'}")
    assert (code, "nope" in said, said[:17]) == (2, True, "training: error: ")


def test_errors_of_the_machine_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = ends("training.clips", "--out", str(tmp_path / "file"))
    assert (code, said) == (1, f"training: error: {tmp_path / 'file'}: File exists")


def test_no_parent_is_watched_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    before = threading.active_count()
    end_with(0)
    assert threading.active_count() == before


STAGE = """
import os, subprocess, sys
child = "import sys, time; from training.entry import end_with; end_with(int(sys.argv[1])); print('ready', flush=True); time.sleep(600)"
subprocess.run([sys.executable, "-c", child, str(os.getpid())])
"""
STREAM = """
import itertools, time
from training.streams import Interleaved
made = Interleaved(itertools.count, 1, 1)
print("ready" if next(made) == 0 else "", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("script", [STAGE, pytest.param(STREAM, marks=pytest.mark.skipif(find_spec("torch") is None, reason="no torch"))])
def test_what_a_killed_process_started_ends_too(script: str) -> None:
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.communicate(timeout=120)  # its output ends with the last process that holds it
