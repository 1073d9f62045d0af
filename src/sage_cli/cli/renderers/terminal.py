"""The live view of a run on a terminal.

Finished lines are printed for good: elapsed time, a label, text, folded for the width that the terminal has at that moment and never cut.
Below them one single line changes in place (see :mod:`.live`). One line at a time cannot tear, and leaves a clean scroll-back.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from sage_cli.agent.events import (
    Answer,
    Event,
    Evidence,
    FramesSampled,
    NoAnswer,
    Notice,
    RunStarted,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    WebRequested,
    Working,
)
from sage_cli.cli.console import basis, neutral, screen
from sage_cli.cli.drawn import Drawn
from sage_cli.cli.keys import unseen_keys
from sage_cli.cli.renderers.live import THINKING, Busy, Head, LiveLine, Paragraph, Rows
from sage_cli.cli.renderers.plain import Told
from sage_cli.cli.renderers.words import (
    arguments_text,
    elapsed_text,
    frames_text,
    setting_lines,
    span_text,
    steps_text,
    usage_text,
    video_text,
)
from sage_cli.model.base import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sage_cli.cli.renderers import Renderer

# The reply's text fields that are for people, and their labels.
FIELDS: Final = {"video_context": "description", "query_intent": "asked for", "answerable.reasoning": "reasoning", "rationale": "next step"}


class Terminal:
    """Follows the run on stderr, and forwards every event to ``results`` at a moment when stdout may be written to."""

    def __init__(self, results: Renderer, *, verbose: bool = False, console: Console | None = None, told: set[str] | None = None) -> None:
        self._results = results
        self._verbose = verbose
        self._console = console or screen(stderr=True)
        self._live: Drawn | None = None
        self._drawn = ExitStack()
        self._line = LiveLine()
        self._field: tuple[int, str] | None = None
        self._settings: list[str] = []
        self._video = ""
        self._told = Told(told)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def show(self, event: Event) -> None:
        if not (isinstance(event, TextDelta) and (event.step, event.field) == self._field):
            self._end_text(event.elapsed)
        if isinstance(event, Answer | NoAnswer):
            self._finish(event)
            return
        match event:
            case Working():
                busy = self._line.state if isinstance(self._line.state, Busy) else Busy(THINKING)
                self._line.state = busy.advance(event)
            case RunStarted():
                self._run_started(event)
            case FramesSampled():
                self._print(event.elapsed, "frames", "", frames_text(event))
            case StepStarted():
                self._line.state = Busy(THINKING, event.elapsed)
            case TextDelta():
                self._text(event)
            case StepFinished() if self._verbose:
                self._print(event.elapsed, "usage", "dim", Text(usage_text(event.usage), "dim"))
            case ToolCalled():
                self._tool_called(event)
            case WebRequested():
                self._print(event.elapsed, "web", "magenta", Text(neutral(event.line)))
            case ToolFinished():
                self._tool_finished(event)
            case Notice() if self._told.adds(event):
                self._print(event.elapsed, "note", "yellow", Text(neutral(event.line)))
        self._results.show(event)
        if isinstance(event, WebRequested):
            self._stop()  # the user may be asked on this terminal
        else:
            self._start()

    # ---- events --------------------------------------------------------------------------------------------------------

    def _run_started(self, event: RunStarted) -> None:
        self._video = event.video
        known, self._settings = self._settings, setting_lines(event.model, event.budget)
        settings = (Text(line, "dim") for line in self._settings if line not in known)
        for line in (Text(neutral(event.question), "bold"), video_text(event), *settings):
            for part in line.wrap(self._console, max(self._console.width - 3, 2)):
                self._put([Text.assemble(("\N{LEFT HALF BLOCK} " if self._console.encoding.startswith("utf") else "| ", "cyan"), part)])
        self._line.state = Busy(THINKING, event.elapsed)

    def _text(self, event: TextDelta) -> None:
        if event.field not in FIELDS:
            return
        if self._field != (event.step, event.field) or not isinstance(self._line.state, Paragraph):
            self._field = event.step, event.field
            self._line.state = Paragraph(Head(elapsed_text(event.elapsed), FIELDS[event.field], "blue"))
        self._line.state, rows = self._line.state.add(neutral(event.text), self._console.width)
        self._put(rows)

    def _end_text(self, elapsed: float) -> None:
        self._field = None
        if isinstance(paragraph := self._line.state, Paragraph):
            self._line.state = Busy(THINKING, elapsed)
            self._put(paragraph.end(self._console.width))

    def _tool_called(self, event: ToolCalled) -> None:
        line = Text.assemble((event.tool, "bold cyan"))
        if event.span:
            line.append("  ").append(span_text(event.span))
        if arguments := arguments_text(event.arguments):
            line.append("  ").append(arguments)
        self._print(event.elapsed, "tool", "bold cyan", line)
        self._line.state = Busy(event.tool, event.elapsed)

    def _tool_finished(self, event: ToolFinished) -> None:
        text = neutral(event.summary)
        if event.repeated:
            text += " (repeated call: the earlier result is used)"
        self._print(event.elapsed, *(("result", "green") if event.ok else ("failed", "red")), Text(text))
        if self._verbose and event.usage != Usage():
            self._print(None, "", "", Text(usage_text(event.usage), "dim"))
        self._line.state = Busy(THINKING, event.elapsed)

    def _finish(self, event: Answer | NoAnswer) -> None:
        steps = steps_text(event.steps)
        if isinstance(event, Answer):
            self._print(event.elapsed, "answered", "bold green", Text(steps, "dim"))
        else:
            self._print(event.elapsed, "no answer", "bold red", Text.assemble(neutral(event.reason), (f" ({steps})", "dim")))
        if self._verbose and event.steps:  # a first look's own usage was just printed
            self._print(None, "", "", Text(usage_text(event.usage), "dim"))
        self._stop()
        if isinstance(event, Answer):
            self._console.print()
        self._results.show(event)
        self._evidence(event.evidence)
        self._console.print()

    def _evidence(self, found: Sequence[Evidence]) -> None:
        head, indent = "  based on  ", " " * 12
        if found and Rows(self._console.width).narrow:
            self._put([Text(head)])
            head = indent = "  "
        for evidence in found:
            text = Text.assemble(span_text(evidence.span, self._video), f"  {neutral(basis(evidence.what, evidence.said))}")
            for line in text.wrap(self._console, max(self._console.width - len(indent), 2)):
                self._put([Text.assemble(head, line)])
                head = indent

    # ---- the screen ----------------------------------------------------------------------------------------------------

    def _print(self, elapsed: float | None, label: str, style: str, text: Text) -> None:
        """Print a paragraph for good: clock and label on the left, the text wrapped beside them."""
        rows = Rows(self._console.width)
        head = None if elapsed is None else Head(elapsed_text(elapsed), label, style)
        self._put(rows.rows(head, list(text.wrap(self._console, rows.body))))

    def _put(self, rows: Sequence[Text]) -> None:
        for row in rows:
            self._console.print(row, soft_wrap=True)  # never cut, should the terminal have become narrower just now

    def _start(self) -> None:
        if self._live is None and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Drawn(self._line, console=self._console, transient=True, redirect_stdout=False, refresh_per_second=10)
            self._drawn.enter_context(unseen_keys())
            # This thread draws first. Otherwise it may take its next line for the first one while rich's thread draws, and erase nothing.
            self._drawn.enter_context(self._live)

    def _stop(self) -> None:
        if isinstance(paragraph := self._line.state, Paragraph):  # interrupted
            self._put(paragraph.end(self._console.width))
            self._line.state = Busy(THINKING)
        self._live = None
        self._drawn.close()
