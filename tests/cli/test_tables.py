"""Tables on terminals of any width: no word is split, nothing is cut."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from sage_cli.cli import tables

HEAD = ("NAME", "SIZE", "ABOUT")
WIDE = ("NAME", "SIZE", "MEMORY", "STATUS", "ABOUT")
MODELS = [
    ("whisper-large-v3-turbo", "1.6 GB", "2.4 GB", "installed, slow", "faster than large-v3"),
    ("mine", "3.3 GB", "", "default", "hf:me/my-own-model"),
]
ROWS = [("qwen3-vl-4b", "3.3 GB", "general-purpose; not fine-tuned for sage"), ("whisper-large-v3-turbo", "1.6 GB", "faster than large-v3")]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def become(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return become


@pytest.mark.parametrize("columns", [24, 40, 50, 60, 72, 80, 140])
@pytest.mark.parametrize(("head", "rows"), [(HEAD, ROWS), (WIDE, MODELS)])
def test_words_stay_whole_at_every_width(
    head: tuple[str, ...], rows: list[tuple[str, ...]], columns: int, terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(columns)
    tables.table(head, rows)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(len(line.rstrip()) <= columns for line in shown.splitlines())
    assert {word for row in (head, *rows) for cell in row for word in cell.split()} == set(shown.split())


@pytest.mark.parametrize("columns", [20, 24, 40, 80])
def test_facts_and_text_keep_their_words_whole(columns: int, terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]) -> None:
    terminal(columns)
    rows = [("vision encoder", "CUDA0: NVIDIA H100, 78 GB of 80 GB free"), ("cache", "12 MB")]
    tables.facts(rows)
    tables.text("A purple star appears between 07:43 and 07:50.")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(len(line.rstrip()) <= columns for line in shown.splitlines())
    assert shown.split() == " ".join([*map(" ".join, rows), "A purple star appears between 07:43 and 07:50."]).split()


def test_a_pipe_gets_one_row_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    tables.table(HEAD, [("a", "1 GB", "What?\nNothing."), ("long-name", "12 GB", "")])
    assert capsys.readouterr().out.splitlines() == ["NAME       SIZE   ABOUT", "a          1 GB   What?  Nothing.", "long-name  12 GB"]
