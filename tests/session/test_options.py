"""Options: defined once, checked in one place; messages name the source of a value."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from sage_cli.errors import UsageError
from sage_cli.session import Options, load_options, open_session
from sage_cli.session.options import declared, settable, taken_by
from sage_cli.session.settings import change


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SAGE_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "config.toml"
    monkeypatch.setenv("SAGE_CONFIG", str(path))
    return path


def test_option_environment_file_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_options() == Options()
    change("max-steps", "3")
    change("language", "de")
    assert load_options().max_steps == 3
    monkeypatch.setenv("SAGE_MAX_STEPS", "5")
    assert load_options().max_steps == 5
    monkeypatch.setenv("SAGE_MAX_STEPS", "")
    assert load_options().max_steps == 3
    # One that is given counts, even if it says what would be so by default.
    assert load_options(max_steps=10, language="auto") == Options()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"frames": "abc"}, "a whole number from 1 to 65536"),
        ({"frames": 0}, "a whole number from 1 to 65536"),
        ({"ctx_size": "4294967297"}, "a whole number from 256 to 4194304"),
        ({"threads": "99999999999"}, "a whole number from 1 to 512"),
        ({"temperature": "nan"}, "a number from 0 to 2"),
        ({"timeout": "inf"}, "a number from 0 to 1000000000"),
        ({"seed": -1}, "a whole number from 0 to 4294967294"),
        ({"vad_threshold": 0.0}, "a number from 0.01 to 0.99"),
        ({"kv_type": "q3"}, "one of f16, q8_0"),
        ({"tools": "maybe"}, "true or false"),
        ({"start": "soon"}, "a time: HH:MM:SS"),
        ({"model": 3j}, "text"),
        ({"start": -1}, "a time: HH:MM:SS"),
        ({"cache_limit": "5"}, "a size with its unit, such as 20 GB"),
        ({"cache_limit": 20 << 30}, "a size with its unit"),
        ({"frames": True}, "a whole number from 1"),
        ({"no_tool": "analyze"}, "a list of text"),
        ({"schema": True}, "a JSON schema, or a file with one"),
        ({"schema": {"enum": [{1}]}}, "a JSON schema, or a file with one"),
    ],
)
def test_what_a_value_cannot_be(given: dict[str, object], said: str) -> None:
    [(name, value)] = given.items()
    with pytest.raises(UsageError) as error:
        load_options({name: "--spelled"}, **given)
    assert str(error.value).startswith(f"--spelled cannot be {value!r}: expected {said}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", -3),
        ("frames", "many"),
        ("web", "yes"),
        ("temperature", -4),
        ("temperature", None),
        ("start", "soon"),
        ("cache_limit", "5"),
    ],
)
def test_options_that_are_made_in_python_are_checked_too(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"^{name} cannot be .*: expected "):
        Options(**{name: value})  # type: ignore[arg-type]


def test_options_that_are_made_in_python_are_converted() -> None:
    made = Options(frames="8", start="0:01", no_tool=["analyze"], schema={"type": "integer"}, cache_limit="1 GB")  # type: ignore[arg-type]
    assert made == Options(frames=8, start=1.0, no_tool=("analyze",), schema='{"type": "integer"}', cache_limit=10**9)
    assert replace(made, frames=9) == Options(**{**asdict(made), "frames": 9})
    assert Options(cache_limit=20e9).cache_limit == 20 * 10**9  # type: ignore[arg-type]
    for wrong in (float("nan"), float("inf"), -1.0):
        with pytest.raises(UsageError, match=r"^cache_limit cannot be .*: expected a size"):
            Options(cache_limit=wrong)  # type: ignore[arg-type]


def test_a_value_in_a_message_is_one_short_line() -> None:
    with pytest.raises(UsageError) as error:
        load_options(frames=["a\n" * 50, "line " * 90])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_session_takes_its_own_options_only(file: Path) -> None:
    for name in ("report", "json", "log", "judge", "words", "recursive", "quantization"):
        with pytest.raises(UsageError, match=rf"^{name} is an option of the command line"):
            open_session(**{name: declared()[name].default})
    with pytest.raises(UsageError, match=r"^report is an option of the command line"):
        open_session(Options(report="r.html"))
    for session in (open_session(Options(jobs=4)), open_session(jobs=4)):
        assert session.options.jobs == 4  # sessions at the same time, which share the machine
        session.close()
    with pytest.raises(UsageError, match="no such option: frmes, did you mean frames"):
        open_session(Options(), frmes=3)
    with pytest.raises(UsageError, match=r"options are given by name, such as .* not as str"):
        open_session("nano")  # type: ignore[arg-type]
    file.write_text("log = false\n")
    assert open_session(load_options(), temperature=None, frames="8").options == Options(frames=8, log=False)
    assert open_session(frames=3).options == Options(frames=3, log=False)


def test_messages_name_the_source(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("frames = 'many'\n")
    with pytest.raises(UsageError, match=f"^{file}: frames cannot be 'many': expected a whole number"):
        load_options()
    file.unlink()
    monkeypatch.setenv("SAGE_FRAMES", "abc")
    with pytest.raises(UsageError, match=r"^SAGE_FRAMES=abc: expected a whole number"):
        load_options()
    with pytest.raises(UsageError, match="no such option: frmes, did you mean frames"):
        load_options(frmes=3)


def test_values_are_read_as_people_write_them() -> None:
    options = load_options(start="1:30", tools="off", cache_limit="1 GB", no_tool=["ground-event"], prompt="caf\udce9", mmproj="a/b")
    assert (options.start, options.tools, options.cache_limit, options.no_tool) == (90.0, False, 10**9, ("ground-event",))
    assert (options.prompt, options.mmproj) == ("café", Path("a/b"))
    assert load_options(cache_limit=0).cache_limit == 0
    assert load_options(schema={"type": "integer"}).schema == '{"type": "integer"}'


def test_options_reach_another_process_whole() -> None:
    options = load_options(language="auto", frames=3)
    assert pickle.loads(pickle.dumps(options)) == options


def test_every_option_is_of_use() -> None:
    for one in declared().values():
        assert one.commands or one.setting, one.name
        assert not (one.setting and one.commands) or one.panel, one.name
        assert one.help.endswith(".") or one.default_text, one.name
        assert one.choices or one.switch or one.metavar, one.name
    assert "frames" in settable() and "output" not in settable()
    assert [one.flag for one in taken_by("transcribe") if one.name == "speech_model"] == ["--model"]


def test_a_settings_file_without_end(file: Path) -> None:
    program = "from sage_cli.session import load_options; load_options()"
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "SAGE_CONFIG": "/dev/zero"}, capture_output=True, text=True)
    assert "larger than 1 MiB" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_pipe_is_no_settings_file(file: Path) -> None:
    """Nobody writes to it: to open it would take for ever."""
    os.mkfifo(file)
    program = "from sage_cli.session import load_options; load_options()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "SAGE_CONFIG": str(file)}, capture_output=True, text=True, timeout=60
    )
    assert "is no settings file, but a pipe" in done.stderr
