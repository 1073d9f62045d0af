"""``--web`` on the command line, and ``--web=ask`` at a terminal."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from sage_cli.agent.events import RunStarted, ToolCalled, WebRequested, Working
from sage_cli.cli import console, parse
from sage_cli.cli.consent import Consent
from sage_cli.cli.options import checked
from sage_cli.cli.renderers.json_lines import Json
from sage_cli.cli.renderers.plain import Notes, Plain
from sage_cli.cli.renderers.terminal import Terminal
from sage_cli.errors import UsageError
from tests.cli.script import HOSTILE, RUN

SEARCH = WebRequested(1.0, 0, "web-search", "search", "search.example", "who wrote Emma")
PAGE = WebRequested(2.0, 1, "parse-website", "page", "site.example", "https://site.example/emma")
ROBOTS = WebRequested(2.0, 1, "parse-website", "robots", "site.example", "https://site.example/robots.txt")
HERE = WebRequested(2.0, 1, "parse-website", "redirect", "site.example", "https://site.example/emma/")
THERE = WebRequested(2.0, 1, "parse-website", "redirect", "other.example", "https://other.example/emma")
THEIR_ROBOTS = WebRequested(2.0, 1, "parse-website", "robots", "other.example", "https://other.example/robots.txt")


def answers(typed: str, *requests: WebRequested) -> list[bool]:
    sys.stdin = io.StringIO(typed)
    consent = Consent("on")
    return [consent(request) for request in requests]


@pytest.fixture(autouse=True)
def _stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def test_there_is_nobody_to_ask_in_a_pipe() -> None:
    with pytest.raises(UsageError, match="needs a terminal"):
        Consent("ask")


@pytest.mark.parametrize(
    ("typed", "allowed"), [("y\n", True), ("YES \n", True), ("n\n", False), ("\n", False), ("", False), ("yup\n", False)]
)
def test_anything_but_a_yes_is_a_no(typed: str, allowed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert answers(typed, SEARCH) == [allowed]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == 'sage: search search.example for "who wrote Emma"? [y]es, [n]o, [a]ll: '


def test_all_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert answers("a\n", SEARCH, PAGE, THERE) == [True, True, True]
    assert capsys.readouterr().err.count("?") == 1


def test_rules_and_redirects_of_a_host_go_with_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert answers("y\n", PAGE, ROBOTS, HERE) == [True, True, True]
    assert capsys.readouterr().err.count("?") == 1


def test_another_host_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert answers("y\nn\n", PAGE, THERE, THEIR_ROBOTS) == [True, False, False]
    assert "open https://other.example/emma (redirected)?" in capsys.readouterr().err


def test_what_is_asked_cannot_dress_up(capsys: pytest.CaptureFixture[str]) -> None:
    answers("", WebRequested(1.0, 0, "web-search", "search", "search.example", f"{HOSTILE}\nfake line? [y]es"))
    asked = capsys.readouterr().err
    assert asked.count("\n") == 0
    assert "\x1b" not in asked


# ---- what is shown -------------------------------------------------------------------------------------------------


def test_the_live_line_makes_room_for_a_question() -> None:
    screen = io.StringIO()
    terminal = Terminal(Plain(), console=Console(file=screen, force_terminal=True, width=80, highlight=False))
    with terminal:
        terminal.show(Working(0.0, 0, "prefill", 1, 2))
        assert terminal._live
        terminal.show(SEARCH)
        assert terminal._live is None
        terminal.show(Working(1.0, 0, "web", 0, 0))
        assert terminal._live
    assert 'search search.example for "who wrote Emma"' in screen.getvalue()


@pytest.mark.parametrize("quiet", [False, True])
def test_what_leaves_is_noted_in_a_log(quiet: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "quiet", quiet)
    Notes(Plain()).show(PAGE)
    assert capsys.readouterr().err == ("" if quiet else "sage: web: open https://site.example/emma\n")


def test_json_gathers_it(capsys: pytest.CaptureFixture[str]) -> None:
    renderer = Json()
    for event in (*[event for event in RUN if isinstance(event, RunStarted | ToolCalled)][:2], SEARCH, RUN[-1]):
        renderer.show(event)
    assert '"web_requests": [{"elapsed": 1.0, "step": 0, "tool": "web-search", "purpose": "search", "host": "search.example"' in (
        capsys.readouterr().out
    )


# ---- the option ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "web"),
    [
        (["clip.mp4", "why?"], "off"),
        (["--web", "clip.mp4", "why?"], "on"),
        (["clip.mp4", "why?", "--web"], "on"),
        (["clip.mp4", "--web=ask", "why?"], "ask"),
        (["clip.mp4", "--web", "ask", "why?"], "ask"),
        (["clip.mp4", "why?", "--web=off"], "off"),
        (["clip.mp4", "why?", "--", "--web"], "off"),
    ],
)
def test_the_option(words: list[str], web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGE_WEB", raising=False)
    context: Any = parse(["ask", *words])
    assert checked("ask", context.params).web == web


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_WEB", "on")
    assert checked("ask", parse(["ask", "clip.mp4", "why?"]).params).web == "on"
    assert checked("ask", parse(["ask", "clip.mp4", "why?", "--web=off"]).params).web == "off"
