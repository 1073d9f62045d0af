"""Native libraries that cannot be loaded: one line, exit code 3, and everything that works without them."""

from __future__ import annotations

import json
import pickle
import shlex
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sage_cli.assets import CLIPS
from sage_cli.cli.checks import _installer
from sage_cli.errors import LibraryError, ModelError, loading

Sage = Callable[..., CompletedProcess[str]]
NANO = ["--model", "nano", "--threads", "1"]


@pytest.fixture
def without_llama(environment: dict[str, str], tmp_path: Path) -> None:
    environment["LLAMA_CPP_LIB_PATH"] = str(tmp_path / "scratch")


@pytest.fixture
def without(environment: dict[str, str], tmp_path: Path) -> Callable[[str], None]:
    """Put an extension module of this name that is no library before the installed one."""

    def without(module: str) -> None:
        (tmp_path / f"{module}{EXTENSION_SUFFIXES[0]}").write_text("not a library")
        environment["PYTHONPATH"] = str(tmp_path)

    return without


@pytest.mark.usefixtures("without_llama")
def test_without_llama_cpp(sage: Sage, tmp_path: Path) -> None:
    asked = sage("ask", CLIPS / "short.mp4", "Which shape is it?", *NANO, "--quiet", "--json")
    assert asked.returncode == ModelError.exit_code
    assert json.loads(asked.stdout)["code"] == "model"
    line = asked.stderr.splitlines()[-1]
    assert line.startswith("sage: error: llama-cpp-python cannot be loaded: Shared library with base name 'llama' not found")
    assert line.endswith("; unset LLAMA_CPP_LIB_PATH")
    for words in ("models", "list"), ("setup", "--yes"):  # which would download a model
        refused = sage(*words)
        assert (refused.returncode, refused.stderr.splitlines()) == (3, [line])
    heard = sage("transcribe", CLIPS / "speech.mp4", *NANO)
    assert heard.returncode == 0, heard.stderr
    assert "seven" in heard.stdout


@pytest.mark.usefixtures("without_llama")
def test_doctor_goes_on_without_llama_cpp(sage: Sage) -> None:
    done = sage("doctor", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert list(record["broken"]) == ["llama-cpp-python"]
    assert (record["speeds"], record["problems"], record["devices"]) == ([], [], [])
    assert record["speech_speed"] > 0
    assert record["decode_speed"] > 0
    assert record["advice"][0].endswith("; unset LLAMA_CPP_LIB_PATH")
    assert not [line for line in record["advice"][1:] if "cannot be loaded" in line or "GPU" in line]


def test_without_whisper_cpp(sage: Sage, without: Callable[[str], None]) -> None:
    without("_pywhispercpp")
    heard = sage("transcribe", CLIPS / "speech.mp4", *NANO)
    assert (heard.returncode, heard.stdout) == (3, "")
    (line,) = heard.stderr.splitlines()
    assert line.startswith("sage: error: pywhispercpp cannot be loaded: ")
    assert line.endswith("; install what is missing, or the package again for this machine ('sage doctor' shows how)")
    asked = sage("ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO, "--quiet")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout


@pytest.mark.parametrize(
    ("module", "package"),
    [("_pywhispercpp", "pywhispercpp"), ("av", "av"), ("cv2", "opencv-python-headless"), ("llguidance", "llguidance")],
)
def test_doctor_says_how_to_install_it(module: str, package: str, sage: Sage, without: Callable[[str], None]) -> None:
    without(module)
    done = sage("doctor", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert list(record["broken"]) == [package]
    (line,) = [line for line in record["advice"] if "cannot be loaded" in line]
    assert f"{package} cannot be loaded: " in line
    assert line.endswith(f" {package}=={record['packages'][package]}")
    assert sys.executable in line


@pytest.mark.parametrize(("module", "words"), [("typer", ["--version"]), ("rich", ["models", "list"]), ("mcp", ["mcp", "--offline"])])
def test_a_dependency_that_is_missing_or_too_old(
    module: str, words: list[str], sage: Sage, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").touch()
    environment["PYTHONPATH"] = str(tmp_path)
    done = sage(*words)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("sage: error: ")
    assert module in line
    assert line.endswith(": install sage-cli again, with its dependencies")


@pytest.mark.parametrize("pip", [True, False])
def test_the_advice_can_be_pasted(pip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my tools/python")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object() if pip else None)
    assert "/opt/my tools/python" in shlex.split(_installer()[0])


def test_whatever_an_import_raises_is_one_line() -> None:
    with pytest.raises(LibraryError, match=r"^numpy cannot be loaded: one two; install") as failure, loading("numpy"):
        raise AttributeError("one\n  two")
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)  # from a worker process to its parent
    assert not failure.value.starved
    with pytest.raises(KeyboardInterrupt), loading("numpy"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "short", "advice"),
    [
        (ImportError("a.so: failed to map segment from shared object"), True, "memory is missing"),
        (ImportError("a.so: failed to map segment from shared object"), False, "install what is missing"),
        (ImportError("a.so: cannot open shared object file"), True, "install what is missing"),
        (MemoryError(), False, "memory is missing"),
    ],
)
def test_a_library_that_finds_no_memory(error: Exception, short: bool, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_cli.errors.is_memory_short", lambda: short)
    with pytest.raises(LibraryError, match=f"; {advice}") as failure, loading("numpy"):
        raise error
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)
