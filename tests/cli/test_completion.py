"""Completions, requested the way shells do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sage_cli import cli
from sage_cli.errors import EXIT_INTERRUPTED
from sage_cli.session.options import settable

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(environment: dict[str, str], tmp_path: Path) -> Complete:
    """Completions that bash shows after an incomplete line, in a folder with a file."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "talk.mp4").touch()
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
        ("sage ask t", []),  # files are left to the shell
        ("sage transcribe ", []),
        ("sage ask v.mp4 what --schema ", []),
        ("sage config set fr", ["frames", "frame-tokens", "frame-size"]),
        ("sage config get ", list(settable())),
        ("sage cache clear --kind we", ["web"]),
        ("sage help scr", ["scripting"]),
        ("sage models pull --up", ["--update"]),
    ],
)
def test_bash(complete: Complete, line: str, shown: list[str]) -> None:
    assert complete(line) == shown


def test_zsh_completes_with_the_first_tab(sage: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """Regression: zsh loads the script with the first TAB, which then only defined the function."""
    script = sage("--show-completion", "zsh").stdout
    assert script.startswith("#compdef sage\n")
    if (zsh := shutil.which("zsh")) is None:
        pytest.skip("no zsh")
    (tmp_path / "_sage").write_text(script.replace("eval $(env", "echo completed $(: "))
    for begin in ("autoload -U _sage; _sage; _sage", ". ./_sage; _sage_completion; _sage_completion"):
        done = subprocess.run(
            [zsh, "-f", "-c", f"compdef() {{ }}; fpath=(.) words=(sage) CURRENT=1; {begin}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("completed\n" * 2, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_name_is_code(environment: dict[str, str], tmp_path: Path, shell: str) -> None:
    """Regression: zsh ran what the name of a file in the folder said when TAB was pressed, bash when the line was entered."""
    hostile = ("\\$(touch x)", "$(touch x)", "`touch x`", "a;touch x", "a b", "a'b", 'a"b', "a|b", "a\nb", "a&b")
    for name in ("plain", *hostile):
        (Path(environment["SAGE_MODELS_DIR"]) / name).mkdir(parents=True)
        (Path(environment["SAGE_MODELS_DIR"]) / name / "model.gguf").touch()
        (tmp_path / f"{name}.mp4").touch()

    def ask(line: str) -> str:
        asked = {"_SAGE_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        words = [sys.executable, "-m", "sage_cli"]
        return subprocess.run(words, env=environment | asked, cwd=tmp_path, capture_output=True, text=True, check=False).stdout.strip()

    assert ask("sage ask ") == ("_files" if shell == "zsh" else "")
    models = ask("sage models rm ")
    assert "plain" in models
    assert "touch" not in models
    assert not re.search(r"a\s?[;|&'\"b]", models)


@pytest.mark.parametrize("words", [["--show-completion", "zsh"], ["--show-completion=zsh"]])
def test_the_shell_can_be_named(sage: Callable[..., subprocess.CompletedProcess[str]], words: list[str]) -> None:
    shown = sage(*words)
    assert (shown.returncode, shown.stdout.splitlines()[0], shown.stderr) == (0, "#compdef sage", "")
    refused = sage("--install-completion", "csh")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in refused.stderr


def test_ctrl_c_prints_nothing_into_the_prompt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("_SAGE_COMPLETE", "complete_fish")
    monkeypatch.setattr(cli, "application", interrupted)
    assert cli._run() == EXIT_INTERRUPTED
    assert capsys.readouterr() == ("", "")


def test_a_broken_settings_file_breaks_no_prompt(complete: Complete, environment: dict[str, str]) -> None:
    Path(environment["SAGE_CONFIG"]).write_text("frmes = ")
    assert complete("sage config get fra") == ["frames", "frame-tokens", "frame-size"]
    environment["SAGE_MODELS_DIR"] = environment["SAGE_CONFIG"]
    assert "qwen3-vl-2b" in complete("sage models pull ")
