"""``sage config``, and its effect on every command."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sage_cli.assets import CLIPS, NANO
from sage_cli.cli import application
from sage_cli.cli.config import _usable
from sage_cli.errors import SageError
from sage_cli.session.options import settable, taken_by
from tests.cli.conftest import Popen
from tests.models import TinyModel

Sage = Callable[..., CompletedProcess[str]]


@pytest.fixture
def file(environment: dict[str, str]) -> Path:
    return Path(environment["SAGE_CONFIG"])


def test_set_get_list_unset(sage: Sage, file: Path, environment: dict[str, str]) -> None:
    assert sage("config", "path").stdout == f"{file}\n"
    assert sage("config", "set", "frames", "64").stderr == ""
    assert sage("config", "get", "frames").stdout == "64\n"
    environment["SAGE_SEED"] = "7"
    lines = sage("config", "list").stdout.splitlines()
    assert [line.split(maxsplit=2) for line in lines if line.startswith(("frames", "seed", "tools"))] == [
        ["seed", "SAGE_SEED", "7"],
        ["frames", "file", "64"],
        ["tools", "true"],
    ]
    assert any(line.split(maxsplit=1) == ["threads", "the number of cores"] for line in lines)
    assert lines[-1] == f"file: {file}"
    records = [json.loads(line) for line in sage("config", "list", "--json").stdout.splitlines()]
    assert {"key": "seed", "value": 7, "origin": "environment"} in records
    assert {"key": "cache-limit", "value": 12_000_000_000, "origin": "default"} in records
    assert "SAGE_SEED is set in the environment and overrides" in sage("config", "set", "seed", "1").stderr
    sage("config", "unset", "frames")
    assert sage("config", "get", "frames").stdout == "\n"


def test_refusals(sage: Sage) -> None:
    done = sage("config", "set", "frmes", "64")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sage: error: no such setting: frmes, did you mean frames? ('sage config list' shows all)\n"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://localhost:8000/v1#qwen", ""),
        ("openai:gpt-9", ""),
        ("nano", ""),
        ("qwen3-vl-4b:Q8_0", "is not installed: run 'sage models pull qwen3-vl-4b:Q8_0'"),
        ("hf:owner/repo", "is not installed"),
    ],
)
def test_models_of_every_kind_are_accepted(sage: Sage, value: str, said: str) -> None:
    done = sage("config", "set", "model", value)
    assert done.returncode == 0
    assert said in done.stderr
    assert bool(done.stderr) is bool(said)
    assert sage("config", "get", "model").stdout == f"{value}\n"


def test_a_model_that_cannot_be_is_refused_and_a_path_becomes_absolute(
    sage: Sage, model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"model": ("nonsense", "general", "http:///v1"), "speech-model": ("nonsense",), "language": ("xx",)}
    refused |= {"mmproj": ("nonsense", str(model.text)), "prompts": ("nonsense", ".")}
    for key, value in [(key, value) for key, values in refused.items() for value in values]:
        with pytest.raises(SageError):
            _usable(key, value)
    done = sage("config", "set", "model", "nonsense")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert sage("config", "get", "model").stdout == "\n"
    for folder, key, path in (
        (model.text.parent, "model", model.text),
        (model.text.parent.parent, "model", model.text.parent),
        (model.text.parent, "mmproj", model.mmproj),
        (NANO.prompts.parent, "prompts", NANO.prompts),
    ):
        monkeypatch.chdir(folder)
        assert _usable(key, path.name) == str(path)
    assert _usable("language", "yue") == "yue"
    # A folder of the same name does not hide an installed model.
    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    shutil.copy(NANO.speech, tmp_path / "models" / "ggml-base.bin")
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert _usable("speech-model", "base") == "base"


def test_edit(sage: Sage, start: Callable[..., Popen], file: Path, environment: dict[str, str]) -> None:
    def edit() -> tuple[int, str]:
        shown, terminal = pty.openpty()
        with start("config", "edit", stdin=terminal, stdout=terminal) as process:
            _, stderr = process.communicate()
        for end in shown, terminal:
            os.close(end)
        return process.returncode, stderr

    environment |= {"VISUAL": f"{sys.executable} -c \"import sys; open(sys.argv[1], 'a').write('frames = 3')\""}
    assert edit() == (0, "")
    assert sage("config", "get", "frames").stdout == "3\n"
    assert all(f"# {key} = " in file.read_text() for key in settable())
    status, line = edit()  # twice in one file
    assert status == 2
    assert "is not TOML" in line
    for editor in ("no-such-editor", "vi '"):
        environment |= {"VISUAL": " ", "EDITOR": editor}
        status, line = edit()
        assert (status, line.count("\n")) == (1, 1)
        assert f"cannot start the editor {editor}: set VISUAL or EDITOR" in line


def test_editing_needs_a_terminal(sage: Sage, file: Path, environment: dict[str, str]) -> None:
    environment |= {"VISUAL": f"{sys.executable} -c \"print('drawn')\""}
    done = sage("config", "edit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sage: error: no terminal to edit on: use 'sage config set', or edit {file}\n"
    assert not file.exists()


def test_a_broken_file_is_named_but_does_not_stop_help(sage: Sage, file: Path) -> None:
    file.write_text("frmes = 3\n")
    done = sage("ask", "v.mp4", "what?")
    assert done.returncode == 2
    assert f"{file}: no such setting: frmes" in done.stderr
    assert sage("ask", "--help").returncode == 0


def test_options_take_their_settings(sage: Sage, file: Path, environment: dict[str, str]) -> None:
    file.write_text("model = 'nonesuch.gguf'\nsampling = 'sideways'\n")
    done = sage("ask", "v.mp4", "what?")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sage: error: {file}: sampling cannot be 'sideways': expected one of exact, keyframe, auto\n"
    file.write_text("speech-model = 'nonesuch'\n")
    assert "nonesuch" in sage("transcribe", CLIPS / "speech.mp4").stderr
    environment["SAGE_THREADS"] = "many"
    assert sage("transcribe", CLIPS / "speech.mp4").stderr == "sage: error: SAGE_THREADS=many: expected a whole number from 1 to 512\n"
    done = sage("transcribe", CLIPS / "speech.mp4", "--beam-size", "9")
    assert done.stderr.startswith("sage: error: SAGE_THREADS=many")
    del environment["SAGE_THREADS"]
    done = sage("transcribe", CLIPS / "speech.mp4", "--beam-size", "9")
    assert done.stderr == "sage: error: --beam-size cannot be '9': expected a whole number from 1 to 8\n"


def test_commands_take_what_is_declared() -> None:
    for name, command in application().commands.items():
        given = {option.name for option in command.params}
        assert {one.name for one in taken_by(name)} <= given, name


def test_a_misspelt_variable_is_told_once(sage: Sage, environment: dict[str, str], tmp_path: Path) -> None:
    """By every command, those without settings too."""
    environment["SAGE_FRAME"] = "8"
    video = str(CLIPS / "short.mp4")
    told = "sage: SAGE_FRAME has no effect: did you mean SAGE_FRAMES?\n"
    for words in ("frames", video, "--at", "1", "-o", tmp_path), ("config", "get", "frames"), ("models", "default"), ("help", "config"):
        assert sage(*words).stderr.count(told) == 1
    assert told not in sage("frames", video, "--at", "1", "-q", "-o", str(tmp_path)).stderr
