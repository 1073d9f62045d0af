"""``sage help``, and checks that the documentation matches the code."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import typer

from docs.generate import TOPICS, pages
from sage_cli.cli import CALLED, COMMANDS, application, parse
from sage_cli.cli.help import _page, _pages, _show, help, topics
from sage_cli.cli.options import checked
from sage_cli.errors import UsageError
from sage_cli.session.options import taken_by

Sage = Callable[..., CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
WRITTEN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command without subcommands, by its words."""
    command = command or application()
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, (*path, name))


def examples(pages: Iterable[Path] = (*WRITTEN, *REFERENCE)) -> list[list[str]]:
    """The arguments of every example in the documentation and, by the reference, in the help, up to a pipe or redirection."""
    found = []
    for path in pages:
        for block in re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True) if re.match(r"(\$ )?(\w+=\S+ )*sage ", line) else []
                if words:
                    words = words[words.index("sage") + 1 :]
                    end = next((place for place, word in enumerate(words) if word in ("|", ">", "<", ">>", "2>", "&&", ";")), len(words))
                    found.append(words[:end])
    return found


def test_the_pages_are_up_to_date() -> None:
    stale = [path.name for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    assert stale == [], "run: uv run python docs/generate.py"
    reference = {path for path in pages() if path.parent.name == "reference"}
    assert {*(ROOT / "docs" / "reference").glob("*.md")} == reference


@pytest.mark.parametrize("words", [example for example in examples() if example and not example[0].startswith("-")], ids=shlex.join)
def test_every_example_is_understood(words: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", environment["SAGE_CONFIG"])
    try:
        context = parse(words)
        checked(words[0], context.params)
    except typer.Exit:  # --help
        pass
    except typer.TyperException as error:
        raise AssertionError(f"sage {shlex.join(words)}: {error.format_message()}") from error


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: "-".join(value) if isinstance(value, tuple) else "")
def test_every_parameter_is_explained(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: "-".join(value) if isinstance(value, tuple) else "")
def test_help_ends_with_examples(path: tuple[str, ...], command: Any) -> None:
    assert f"sage {' '.join(path)}" in (command.epilog or "")


def test_every_option_has_an_example() -> None:
    """One of its commands is shown with it, in the form that changes something: ``--no-vad``. An option of one command, with that one."""
    written, missing = examples(), []
    for path, command in commands():
        shared = {one.name: one for one in taken_by(path[0])}
        for option in (one for one in command.params if one.param_type_name == "option" and one.name not in ("help", "help_all")):
            known = shared.get(option.name)
            names = option.secondary_opts if known and known.default is True else option.opts
            shown = (words for words in written if known or words[: len(path)] == [*path])
            if not any(word.partition("=")[0] in names for words in shown for word in words):
                missing.append(f"sage {' '.join(path)} {names[0]}")
    assert missing == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_measurements_of_a_page_have_folders_of_their_own(page: Path) -> None:
    """A page can be followed from top to bottom: no command finds the run of an earlier one in its folder."""
    folders = []
    for words in examples([page]):
        if words[:1] == ["bench"] and "--resume" not in words:
            given = parse(words).params
            folders += [given["output"] or (given["dataset"], given["model"])]
            folders += [f"{given['output']}-direct"] if given["compare"] == "direct" else []
    assert sorted({*map(str, folders)}) == sorted(map(str, folders))


def test_topics_are_listed_and_shown(sage: Sage) -> None:
    listed = sage("help").stdout
    for name, title in topics().items():
        assert re.search(rf"^{name} +{re.escape(title)}$", listed, re.MULTILINE)
        assert title
    for name in ("events", "config", "models"):  # the last two are generated
        text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert sage("help", name).stdout.rstrip() == text[text.index("# ") :].rstrip()


@pytest.mark.parametrize("columns", [40, 80])
def test_nothing_of_a_page_is_cut(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    for path in _pages().values():
        _show(text := _page(path))
        assert capsys.readouterr().out.count("…") == text.count("…"), path.name


def test_every_link_of_a_page_leads_somewhere_from_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    targets = set()
    for path in _pages().values():
        _show(_page(path))
        targets |= set(re.findall(r"\x1b\]8;[^;]*;([^\x1b\x07]+)", capsys.readouterr().out))
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    _show(
        "[Notes](models.md#size), [the short way](../README.md#install), [above](#top), ![a curve](training/rl.svg), [paper](https://a.example/b)."
    )
    shown = " ".join(re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).split())
    assert shown.startswith("Notes (sage help models), the short way, above, a curve, \x1b]8;")


def test_help_of_a_command(sage: Sage) -> None:
    assert sage("help", "cache", "clear").stdout == sage("cache", "clear", "--help").stdout != ""
    done = sage("help", "transcrib")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean transcribe?" in done.stderr
    assert CALLED.keys().isdisjoint(COMMANDS)
    assert {*CALLED.values()} < {*COMMANDS}
    with pytest.raises(UsageError, match=r"chapters, did you mean summary\?"):
        help(["chapters"])


@pytest.mark.parametrize("words", [["-h"], ["ask", "-h"], ["models", "pull", "-h"]])
def test_the_short_form(words: list[str]) -> None:
    with pytest.raises(typer.Exit):
        parse(words)


def test_the_ladder_in_the_documentation_is_the_code_s() -> None:
    from sage_cli.hardware.plan import LADDER, OVERHEAD

    text = (TOPICS / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \|$", text, re.MULTILINE)
    assert [(int(frames), int(context), kind) for frames, context, kind in rows] == [*LADDER]
    assert f"{OVERHEAD >> 20} MiB for everything else" in text


def test_messages_point_to_pages_that_are_installed() -> None:
    """An installed user has no checkout: messages name `sage help TOPIC`, and the topic exists. A command's help is in --help."""
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value in docstrings or not re.search(r"docs/\w+\.md", node.value), f"{path.name}: {node.value}"
                named |= set(re.findall(r"sage help (\w+)", node.value))
    assert named - {"TOPIC", "COMMAND"} <= {*topics()}
