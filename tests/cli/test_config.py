"""``sage config``, and that every command heeds it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sage_cli.cli import application, parse
from sage_cli.store.config import Config, variable

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
    assert [line.split(maxsplit=2) for line in lines if line.startswith(("frames", "seed", "tools", "model"))] == [
        ["model", "automatic", "default"],
        ["frames", "64", str(file)],
        ["tools", "true", "default"],
        ["seed", "7", "environment SAGE_SEED"],
    ]
    records = [json.loads(line) for line in sage("config", "list", "--json").stdout.splitlines()]
    assert {"key": "seed", "value": 7, "origin": "environment"} in records
    assert {"key": "cache-limit", "value": 12 << 30, "origin": "default"} in records
    assert "SAGE_SEED is set in the environment and wins" in sage("config", "set", "seed", "1").stderr
    sage("config", "unset", "frames")
    assert sage("config", "get", "frames").stdout == "\n"


def test_refusals(sage: Sage) -> None:
    done = sage("config", "set", "frmes", "64")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sage: error: no such setting: frmes, did you mean frames? ('sage config list' shows all)\n"


def test_edit(sage: Sage, file: Path, environment: dict[str, str]) -> None:
    environment |= {"VISUAL": f"{sys.executable} -c \"import sys; open(sys.argv[1], 'a').write('frames = 3')\""}
    assert sage("config", "edit").returncode == 0
    assert sage("config", "get", "frames").stdout == "3\n"
    assert all(f"# {field.alias} = " in file.read_text() for field in Config.model_fields.values())
    done = sage("config", "edit")  # twice in one file
    assert done.returncode == 2
    assert "is not TOML" in done.stderr
    environment["VISUAL"] = "no-such-editor"
    assert "set VISUAL or EDITOR" in sage("config", "edit").stderr


def test_a_broken_file_is_named_but_does_not_stop_help(sage: Sage, file: Path) -> None:
    file.write_text("frmes = 3\n")
    done = sage("ask", "v.mp4", "what?")
    assert done.returncode == 2
    assert f"{file}: no such setting: frmes" in done.stderr
    assert sage("ask", "--help").returncode == 0


def test_options_take_their_settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "SAGE_CONFIG", "SAGE_MODELS_DIR":
        monkeypatch.setenv(name, environment[name])
    Path(environment["SAGE_CONFIG"]).write_text(
        "frames = 10\nseed = 11\nmax-steps = 12\nspeech-model = 'base'\nthreads = 3\ntools = false\n"
    )
    monkeypatch.setenv("SAGE_SEED", "21")
    monkeypatch.setenv("SAGE_MAX_STEPS", "22")
    asked = parse(["ask", "v.mp4", "what?", "--max-steps", "32"]).params
    assert [asked[name] for name in ("frames", "seed", "max_steps", "temperature")] == [10, 21, 32, 0.0]
    assert [asked[name] for name in ("speech_model", "threads", "tools")] == ["base", 3, False]
    transcribed = parse(["transcribe", "v.mp4"]).params
    assert [transcribed[name] for name in ("model", "threads")] == ["base", 3]


def test_settings_are_options_and_have_the_same_bounds() -> None:
    command = application()
    options = {
        option.envvar: option
        for subcommand in command.commands.values()
        for option in subcommand.params
        if option.envvar
    }  # fmt: skip
    for name, field in Config.model_fields.items():
        key = str(field.alias)
        if key not in ("quantization", "cache-limit"):  # of no single command
            option = options[variable(key)]
            bounds = {type(bound).__name__: getattr(bound, type(bound).__name__.lower()) for bound in field.metadata}
            assert (option.min, option.max) == (bounds.get("Ge"), bounds.get("Le")), name
