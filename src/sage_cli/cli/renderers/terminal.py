"""The live view of a run on a terminal.

What is finished is printed for good; below it one single line changes in place: a clock with what is going on, or the last, still growing
line of the text that the model writes. One line at a time cannot tear, survives resizing, and leaves a clean scroll-back.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sage_cli.agent.events import (
    Answer,
    Budget,
    Event,
    Evidence,
    FramesSampled,
    NoAnswer,
    Notice,
    RunStarted,
    Span,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    WebRequested,
    Working,
)
from sage_cli.cli.console import neutral
from sage_cli.model.base import ModelInfo, Usage
from sage_cli.timecode import format_clock

if TYPE_CHECKING:
    from sage_cli.cli.renderers import Renderer

CLOCK = 8  # columns of the elapsed time
MARGIN = CLOCK + 2

STAGES = {
    "load": "loading the model",
    "frames": "reading frames",
    "encode": "encoding frames",
    "prefill": "reading the prompt",
    "speech": "transcribing speech",
    "web": "waiting for the web",
}
THINKING = "thinking"
# The reply's text fields that are for people, and what to call them.
FIELDS = {"video_context": "video", "query_intent": "intent", "answerable.reasoning": "reasoning", "rationale": "why"}
# Arguments that the span and the tool's name tell already.
HIDDEN_ARGUMENTS = {"video_path", "timestamp_start", "timestamp_end"}


class Terminal:
    """Follows the run on stderr and hands every event on to ``results``, at a moment when stdout may be written to."""

    def __init__(self, results: Renderer, *, verbose: bool = False, console: Console | None = None) -> None:
        self._results = results
        self._verbose = verbose
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=False)
        self._live: Live | None = None
        self._line = _LiveLine()
        self._field: tuple[int, str] | None = None
        self._shown: tuple[ModelInfo, Budget] | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def show(self, event: Event) -> None:
        self._line.set_clock(event.elapsed)
        if not (isinstance(event, TextDelta) and (event.step, event.field) == self._field):
            self._end_text()
        match event:
            case Working():
                self._line.work(STAGES[event.stage], event.done, event.total)
            case RunStarted():
                self._run_started(event)
            case FramesSampled():
                self._print(event.elapsed, _frames_line(event))
            case StepStarted():
                self._line.work(THINKING)
            case TextDelta():
                self._text(event)
            case StepFinished() if self._verbose:
                self._print(event.elapsed, Text(f"step {event.step}: {_usage(event.usage)}", "dim"))
            case ToolCalled():
                self._tool_called(event)
            case WebRequested():
                self._print(event.elapsed, Text.assemble(("web  ", "magenta"), neutral(event.line)))
            case ToolFinished():
                self._tool_finished(event)
            case Notice():
                self._print(event.elapsed, Text.assemble(("note  ", "yellow"), neutral(event.text)))
        if isinstance(event, Answer | NoAnswer):
            self._finish(event)
        else:
            self._results.show(event)
            if isinstance(event, WebRequested):
                self._stop()  # somebody may be asked on this terminal whether it may leave
            else:
                self._start()

    # ---- events --------------------------------------------------------------------------------------------------------

    def _run_started(self, event: RunStarted) -> None:
        video = Text.assemble((neutral(event.question), "bold"), "\n", (neutral(event.video), "cyan"), "  ", _span(event.span))
        self._print(event.elapsed, video)
        if self._shown != (event.model, event.budget):
            self._shown = event.model, event.budget
            self._print(None, Text(_setting(event.model, event.budget), "dim"))

    def _text(self, event: TextDelta) -> None:
        if event.field not in FIELDS:
            return
        if self._field != (event.step, event.field):
            self._field = event.step, event.field
            self._line.paragraph = _Paragraph(event.elapsed, f"{FIELDS[event.field]}  ")
        if self._line.paragraph:
            for line in self._line.paragraph.add(neutral(event.text), self._width()):
                self._put(line)

    def _end_text(self) -> None:
        self._field = None
        if paragraph := self._line.paragraph:
            self._line.paragraph = None
            self._line.work(THINKING)
            for line in paragraph.end():
                self._put(line)

    def _tool_called(self, event: ToolCalled) -> None:
        line = Text.assemble((event.tool, "bold cyan"))
        if event.span:
            line.append("  ").append(_span(event.span))
        if arguments := _arguments(event.arguments):
            line.append("  ").append(arguments)
        self._print(event.elapsed, line)
        self._line.work(event.tool)

    def _tool_finished(self, event: ToolFinished) -> None:
        text = neutral(event.summary)
        if event.repeated:
            text += " (same call as before: not run again)"
        mark = ("-> ", "green") if event.ok else ("failed: ", "red")
        self._print(event.elapsed, Text.assemble(mark, text))
        if self._verbose and event.usage != Usage():
            self._print(None, Text(_usage(event.usage), "dim"))
        self._line.work(THINKING)

    def _finish(self, event: Answer | NoAnswer) -> None:
        steps = f"after {event.steps} step{'' if event.steps == 1 else 's'}" if event.steps else "at first look"
        if isinstance(event, Answer):
            self._print(event.elapsed, Text.assemble(("answer", "bold green"), (f"  {steps}", "dim")))
        else:
            self._print(event.elapsed, Text.assemble(("no answer", "bold red"), f"  {neutral(event.reason)}", (f"  {steps}", "dim")))
        if self._verbose:
            self._print(None, Text(_usage(event.usage), "dim"))
        self._stop()
        self._results.show(event)
        for evidence in event.evidence:
            self._console.print(_evidence(evidence))

    # ---- the screen ----------------------------------------------------------------------------------------------------

    def _width(self) -> int:
        return max(self._console.width - MARGIN - 1, 20)

    def _print(self, elapsed: float | None, text: Text) -> None:
        """Print a paragraph for good: time at the left, the rest wrapped beside it."""
        clock = "" if elapsed is None else format_elapsed(elapsed)
        for line in text.wrap(self._console, self._width()):
            self._put(_row(clock, line))
            clock = ""

    def _put(self, line: Text) -> None:
        self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)

    def _start(self) -> None:
        if self._live is None and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(self._line, console=self._console, transient=True, redirect_stdout=False, refresh_per_second=10)
            self._live.start()

    def _stop(self) -> None:
        self._end_text()
        if self._live:
            self._live.stop()
            self._live = None


class _LiveLine:
    """The one line that changes. Drawn from Rich's refresh thread too: what is drawn is always one whole, immutable value."""

    def __init__(self) -> None:
        self.paragraph: _Paragraph | None = None
        self._clock = (0.0, time.monotonic())
        self._work = (THINKING, 0, 0)

    def set_clock(self, elapsed: float) -> None:
        self._clock = elapsed, time.monotonic()

    def work(self, label: str, done: int = 0, total: int = 0) -> None:
        self._work = label, done, total

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if paragraph := self.paragraph:
            yield paragraph.row
            return
        elapsed, since = self._clock
        label, done, total = self._work
        cells: list[RenderableType] = [Text(format_elapsed(elapsed + time.monotonic() - since), "dim"), Text(label, no_wrap=True)]
        if total:
            count = f"{done}/{total}"
            width = min(40, options.max_width - MARGIN - len(label) - len(count) - 6)
            if width >= 8:
                cells.append(ProgressBar(total, done, width, style="dim", complete_style="cyan", finished_style="cyan"))
            cells.append(Text(count, "dim", no_wrap=True))
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_row(*cells)
        yield row


class _Paragraph:
    """Text that is still growing: lines that are full are given back to be printed, ``row`` is the last one."""

    def __init__(self, elapsed: float, label: str) -> None:
        self._clock, self._label, self._line = format_elapsed(elapsed), label, ""
        self.row = self._render("")

    def add(self, text: str, width: int) -> list[Text]:
        *paragraphs, rest = (self._line + text).split("\n")
        full = [line for paragraph in paragraphs for line in _fold(paragraph, width - len(self._label)) if line.strip()]
        *lines, self._line = _fold(rest.lstrip(), width - len(self._label))
        rows = [self._take(line) for line in (*full, *lines)]
        self.row = self._render(self._line)
        return rows

    def end(self) -> list[Text]:
        return [self._take(self._line)] if self._line.strip() else []

    def _take(self, line: str) -> Text:
        row = self._render(line)
        self._clock, self._label = "", " " * len(self._label)
        return row

    def _render(self, line: str) -> Text:
        return _row(self._clock, Text.assemble(self._label, (line, "dim")))


# ---- words -------------------------------------------------------------------------------------------------------------


def format_elapsed(seconds: float) -> str:
    """``   12.4s``, ``   2:05`` or ``1:02:05``, right-aligned in the clock's columns."""
    if seconds < 59.95:
        text = f"{seconds:.1f}s"
    else:
        minutes, rest = divmod(round(seconds), 60)
        text = f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
    return text.rjust(CLOCK)


def _row(clock: str, line: Text) -> Text:
    return Text.assemble((clock.rjust(CLOCK), "dim"), "  ", line)


def _fold(text: str, width: int) -> list[str]:
    """Split a paragraph into lines at spaces, hard where there are none; the last keeps its trailing space, for it may still grow."""
    lines = []
    while cell_len(text.rstrip(" ")) > width:
        head = chop_cells(text, width)[0]
        cut = head.rfind(" ") if text[len(head)] != " " else len(head)
        cut = cut if cut > 0 else len(head)
        lines.append(text[:cut].rstrip(" "))
        text = text[cut:].lstrip(" ")
    return [*lines, text]


def _span(span: Span) -> Text:
    return Text(f"{format_clock(span.start)}-{format_clock(span.end)}", "cyan")


def _evidence(evidence: Evidence) -> Text:
    return Text.assemble("  ", _span(evidence.span), f"  {evidence.what}")


def _frames_line(event: FramesSampled) -> Text:
    if not event.times:
        return Text("no frames")
    count = len(event.times)
    return Text.assemble(
        f"{count} frame{'' if count == 1 else 's'}  ", _span(Span(event.times[0], event.times[-1])), (f"  {event.method}", "dim")
    )


def _setting(model: ModelInfo, budget: Budget) -> str:
    limits = [
        f"{budget.frames} frames of {budget.frame_width}x{budget.frame_height}",
        f"context {budget.context_size}",
        f"{budget.max_steps} steps" if budget.tools else "no tools",
        *([f"{budget.timeout_s:g}s"] if budget.timeout_s is not None else []),
    ]
    return f"{neutral(model.name)} on {model.device}, vision on {model.vision_device}\n{', '.join(limits)}" + (
        f"\ntools: {', '.join(budget.tools)}" if budget.tools else ""
    )


def _arguments(arguments: dict[str, Any]) -> Text:
    words = []
    for name, value in arguments.items():
        if name in HIDDEN_ARGUMENTS or value in (None, [], ""):
            continue
        if isinstance(value, list):
            what = name.replace("_", " ")
            words.append(f"{len(value)} {what.removesuffix('s') if len(value) == 1 else what}")
        else:
            words.append(f'"{value}"' if isinstance(value, str) else f"{name} {value}")
    return Text(neutral("  ".join(words)))


def _usage(usage: Usage) -> str:
    return (
        f"prompt {usage.prompt_tokens} tokens, {usage.prompt_reused} reused; {usage.images} images, {usage.images_reused} reused; "
        f"output {usage.output_tokens}, {usage.output_forced} forced; "
        f"load {usage.load_s:.1f} s, encode {usage.encode_s:.1f} s, prefill {usage.prefill_s:.1f} s, decode {usage.decode_s:.1f} s"
    )
