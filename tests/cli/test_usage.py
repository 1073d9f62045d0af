"""``--help`` without boxes."""

from __future__ import annotations

import re
import sys

import pytest
import typer

from sage_cli.cli import console, parse

_BOXES = re.compile("[\u2500-\u257f]")


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(typer.Exit):
        parse([*words])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--help"], ["ask", "--help"], ["ask", "--help-all"], ["models", "--help"], ["models", "pull", "--help"]]
)
def test_help_in_a_pipe_has_the_same_words_without_boxes(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plain = _help(capsys, *words)
    monkeypatch.setattr(console, "draws", lambda: True)
    boxed = _help(capsys, *words)
    assert not _BOXES.search(plain)
    assert _BOXES.search(boxed)
    assert "[bold]" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert {*re.findall(r"--[a-z-]+", boxed)} == {*re.findall(r"--[a-z-]+", plain)}
    said = {*re.findall(r"[A-Z][a-z]{3,}", plain)}
    assert {*re.findall(r"[A-Z][a-z]{3,}", boxed)} == said


def test_parts_of_the_plain_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = _help(capsys, "transcribe", "--help-all")
    assert text.startswith("Usage: sage transcribe [OPTIONS] MEDIA...\n\nTranscribe speech in videos and recordings.\n\n")
    assert "\nArguments:\n  MEDIA...  Video or audio file, or a folder of them; -\n            reads stdin. [required]\n" in text
    assert "\n  -m, --model, --speech-model NAME|PATH\n                                  Whisper model: a\n" in text
    assert "\n\nExamples\n  sage transcribe talk.mp4 -o talk.srt\n" in text


@pytest.mark.parametrize(("term", "tty", "draws"), [("xterm", True, True), ("dumb", True, False), ("xterm", False, False)])
def test_boxes_are_for_terminals_that_draw(monkeypatch: pytest.MonkeyPatch, term: str, tty: bool, draws: bool) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: tty)
    assert console.draws() == draws
