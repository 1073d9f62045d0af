"""The live view on a terminal, emulated by pyte."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.console import Console

from sage_cli.agent.events import Event, Notice, TextDelta, Working
from sage_cli.cli.renderers.live import Busy
from sage_cli.cli.renderers.plain import Styled
from sage_cli.cli.renderers.terminal import Terminal
from sage_cli.cli.renderers.words import elapsed_text, left_text
from tests.cli.conftest import SMALL
from tests.cli.pseudo import LINES, on_terminal
from tests.cli.script import ANSWER, CONTEXT, HOSTILE, NO_ANSWER, QUESTION, RUN, words
from tests.models import TinyModel


class Screen:
    """Shows a run; the screen can be read after every event."""

    def __init__(
        self, width: int, monkeypatch: pytest.MonkeyPatch, *, verbose: bool = False, environment: Mapping[str, str] | None = None
    ) -> None:
        for name in "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES":
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm-256color", **(environment or {})}.items():
            monkeypatch.setenv(name, value)
        self.written = io.StringIO()
        self.screen = pyte.Screen(width, LINES)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)
        self._fed = 0
        # One terminal for both stdout and stderr.
        console = Console(file=self.written, force_terminal=True, width=width, height=LINES, highlight=False)
        self.terminal = Terminal(Styled(console), verbose=verbose, console=console)

    def show(self, event: Event) -> None:
        self.terminal.show(event)
        if live := self.terminal._live:
            live.refresh()  # the refresh thread's job, without waiting for it

    def lines(self) -> list[str]:
        text = self.written.getvalue()
        self._stream.feed(text[self._fed :])
        self._fed = len(text)
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")


@pytest.fixture(params=[20, 24, 40, 80, 140])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Screen:
    return Screen(request.param, monkeypatch)


def test_one_line_changes_at_a_time(screen: Screen) -> None:
    """Only the last line may change; all lines above it are final."""
    settled: list[str] = []
    with screen.terminal:
        for event in RUN:
            screen.show(event)
            lines = screen.lines()
            assert lines[: len(settled)] == settled
            settled = lines[:-1]


def test_what_is_left_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(80, monkeypatch)
    with screen.terminal:
        for event in RUN:
            screen.show(event)
    assert "\n".join(screen.lines()) == Path(__file__).with_name("terminal-80.txt").read_text(encoding="utf-8").rstrip("\n")


def test_nothing_is_lost_to_the_width(screen: Screen) -> None:
    with screen.terminal:
        for event in RUN:
            screen.show(event)
    text = " ".join(" ".join(screen.lines()).replace("▌", " ").split())
    for wanted in (QUESTION, " ".join(CONTEXT.split()), ANSWER.answer, '"What does the board say?"'):
        assert wanted in text
    assert text.endswith("00:00:45-00:01:05 frames analyzed")


def test_nothing_is_lost_when_the_width_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(140, monkeypatch)
    with screen.terminal:
        for number, event in enumerate(RUN):
            screen.terminal._console.width = (140, 30, 100, 50, 24)[number % 5]
            screen.show(event)
    text = " ".join("\n".join(screen.lines()).split())
    for wanted in (QUESTION, " ".join(CONTEXT.split()), "found at 00:00:45-00:01:05", ANSWER.answer):
        assert wanted in text


def test_growing_text_is_drawn_for_the_width_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(100, monkeypatch)
    with screen.terminal:
        for event in (RUN[0], TextDelta(1.0, 0, "video_context", "A woman in a red coat walks through a crowded station")):
            screen.show(event)
        screen.terminal._console.width = 40
        screen.terminal._live.refresh()  # type: ignore[union-attr]
        assert screen.lines()[-1] == "          through a crowded station"


def test_tabs_take_columns(screen: Screen) -> None:
    text = "Columns:\tone\ttwo\tthree\tfour\tfive\tsix and then some more words that follow\tend"
    with screen.terminal:
        for event in (RUN[0], *words(0, "video_context", text, 1.0), Notice(3.0, text), RUN[-1]):
            screen.show(event)
    assert " ".join("\n".join(screen.lines()).split()).count(" ".join(text.split())) == 2


def test_the_line_is_drawn_before_anything_is_printed_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich erases what it has drawn: it must not draw for the first time in its own thread, while this one prints."""
    screen = Screen(80, monkeypatch)
    with screen.terminal:
        screen.terminal.show(RUN[0])
        assert screen.lines()[-1].endswith("thinking")


def test_progress_is_on_the_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(80, monkeypatch)
    with screen.terminal:
        for event in RUN[:5]:
            screen.show(event)
        assert re.fullmatch(r" +\d\.\ds  encoding frames  [━╸╺]+ +40/64 images", screen.lines()[-1])
        screen.show(Working(1.2, 0, "encode", 64, 64))
        screen.show(RUN[5])
        assert re.fullmatch(r" +\d\.\ds  reading the prompt  [━╸╺]+ +2048/7600 tokens", screen.lines()[-1])
        screen.show(Working(3.0, 0, "prefill", 7600, 7600))
        assert re.fullmatch(r" +\d\.\ds  thinking", screen.lines()[-1])
    assert "reading the prompt" not in screen.lines()[-1]


def test_words_appear_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(80, monkeypatch)
    with screen.terminal:
        for event in (RUN[0], TextDelta(1.0, 0, "video_context", "A wom"), TextDelta(1.1, 0, "video_context", "an in")):
            screen.show(event)
        assert screen.lines()[-1] == "    1.0s  description  A woman in"


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(80, monkeypatch)
    with screen.terminal:
        for event in (*RUN[:-1], NO_ANSWER):
            screen.show(event)
    assert "    1:16  no answer    none was found in 3 steps (after 3 steps)" in screen.lines()


def test_verbose_tells_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(140, monkeypatch, verbose=True)
    with screen.terminal:
        for event in RUN:
            screen.show(event)
    assert any(line.startswith("    9.0s  usage        prompt 7600 tokens (0 reused), 64 images (0 reused), ") for line in screen.lines())


def test_a_second_question_does_not_repeat_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(140, monkeypatch)
    with screen.terminal:
        for event in (*RUN, *RUN):
            screen.show(event)
    text = "\n".join(screen.lines())
    assert (text.count(QUESTION), text.count("Qwen3-VL-4B")) == (2, 1)


def test_what_is_told_of_the_file_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(140, monkeypatch)
    run = [*RUN[:-1], Notice(75.0, "the file is cut short", media=True), RUN[-1]]
    with screen.terminal:
        for event in (*run, *run):
            screen.show(event)
    text = "\n".join(screen.lines())
    assert (text.count("cut short"), text.count("start and end were the same")) == (1, 2)


def test_hostile_text_is_disarmed(screen: Screen) -> None:
    with screen.terminal:
        for event in RUN:
            for name in "question", "text", "summary", "answer":
                if hasattr(event, name):
                    changed: dict[str, Any] = {name: HOSTILE}
                    event = dataclasses.replace(event, **changed)
            screen.show(event)
    assert "title" in " ".join(screen.lines())
    assert screen.screen.title == ""
    # The only OSC sequences are our links, whose addresses are percent-encoded.
    assert not re.search("\x1b\\[2J|\x1b\\](?!8;(id=\\d+)?;)|\x07|\x9b|\u202e|\x00|\x7f", screen.written.getvalue())


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colour(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    screen = Screen(80, monkeypatch, environment=environment)
    with screen.terminal:
        for event in RUN:
            screen.show(event)
    written = screen.written.getvalue()
    assert not re.search("\x1b\\[[0-9;]*3[0-7]", written)
    assert ("\x1b" in written) == (environment.get("TERM") != "dumb")
    assert ANSWER.answer in written


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "    0.0s"), (59.94, "   59.9s"), (59.96, "    1:00"), (125.4, "    2:05"), (3599.7, " 1:00:00"), (36000, "10:00:00")],
)
def test_elapsed(seconds: float, text: str) -> None:
    assert elapsed_text(seconds) == text


# ---- estimates -----------------------------------------------------------------------------------------------------


def test_an_estimate_comes_from_the_speed_of_this_stage() -> None:
    busy = Busy("thinking")
    for elapsed, done in ((10.0, 4), (12.0, 8), (20.0, 24)):
        busy = busy.advance(Working(elapsed, 0, "encode", done, 64))
    assert busy.paces["encode"].left == pytest.approx(40 / 2)


def test_no_estimate_from_one_event_or_at_the_end() -> None:
    busy = Busy("thinking").advance(Working(10.0, 0, "encode", 4, 64))
    assert busy.paces["encode"].left is None
    assert busy.advance(Working(20.0, 0, "encode", 64, 64)).paces["encode"].left is None


def test_another_step_is_estimated_anew() -> None:
    busy = Busy("thinking").advance(Working(1.0, 0, "prefill", 0, 100)).advance(Working(11.0, 0, "prefill", 10, 100))
    busy = busy.advance(Working(12.0, 1, "prefill", 0, 100)).advance(Working(14.0, 1, "prefill", 50, 100))
    assert busy.paces["prefill"].left == pytest.approx(2.0)


def test_alternating_stages_show_the_slower_one() -> None:
    """The prompt's text is read fast at first; the frames that are still to be encoded decide how long it takes."""
    busy = Busy("thinking")
    for elapsed, stage, done, total in (
        (1.0, "prefill", 500, 3000),
        (3.0, "encode", 1, 10),
        (3.1, "prefill", 600, 3000),
        (5.0, "encode", 2, 10),
        (5.1, "prefill", 700, 3000),
    ):
        busy = busy.advance(Working(elapsed, 0, stage, done, total))  # type: ignore[arg-type]
    assert busy.label == "encoding frames"
    assert busy.shown is busy.paces["encode"]
    assert busy.paces["encode"].left == pytest.approx(16.0)


def test_the_estimate_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(100, monkeypatch)
    with screen.terminal:
        for event in (RUN[0], Working(1.0, 0, "encode", 4, 64), Working(61.0, 0, "encode", 24, 64)):
            screen.show(event)
        assert re.fullmatch(r" +1:0\d  encoding frames  [━╸╺]+ +24/64 images, about 2 min left", screen.lines()[-1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "a few seconds left"), (41, "about 40 s left"), (100, "about 2 min left"), (3 * 3600, "about 3.0 h left")],
)
def test_left(seconds: float, text: str) -> None:
    assert left_text(seconds) == text


# ---- a real terminal -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 140])
def test_in_a_real_terminal(width: int, model: TinyModel, clip: Path, environment: dict[str, str]) -> None:
    command = ["-m", "sage_cli", "ask", clip.name, "what is it?", "-m", str(model.text), *SMALL]
    done = on_terminal(command, environment, columns=width, cwd=clip.parent)
    assert done.status == 0
    lines = done.lines
    assert lines[0] == "▌ what is it?"
    assert lines[1] == f"▌ {clip.name}, 00:00:02 long"
    assert lines[2] == "▌ tiny-qwen3-vl on CPU"
    assert " ".join(line.lstrip("▌ ") for line in lines[3:5]).startswith("2 frames of 128x96 pixels, context 4096 tokens, no tools")
    answer = next(number for number, line in enumerate(lines) if re.fullmatch(r" +[\d.:]+s?  answered     at first look", line))
    assert len(lines) > answer + 2
    assert lines[-1] == "  based on  00:00:00-00:00:01  frames sampled"
    # Times at the left never run backwards, and nothing of the live line is left.
    times = [float(found[1]) for line in lines[:answer] if (found := re.match(r" +([\d.]+)s  ", line))]
    assert times == sorted(times)
    assert not any("thinking" in line or "━" in line or "loading" in line for line in lines)
