"""The one line of the live view that changes in place: a clock with the current work, or the last line of text that still grows.

Rich draws it from a thread of its own, so :class:`LiveLine` holds one immutable state and replaces it as a whole. The terminal's width may
change between any two drawings: no state depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sage_cli.agent.events import Working
from sage_cli.cli.renderers.words import CLOCK, MARGIN, elapsed_text, left_text

THINKING: Final = "thinking"
# What each stage of `Working` does, and the unit that it counts in.
STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "load": ("loading the model", ""),
    "frames": ("decoding frames", "frames"),
    "encode": ("encoding frames", "images"),
    "prefill": ("reading the prompt", "tokens"),
    "speech": ("transcribing speech", "seconds"),
    "web": ("waiting for the web", ""),
}
LABEL: Final = 11  # columns of the widest label
NARROW: Final = 60  # columns; below, a label gets a row of its own
TINY: Final = 30  # columns; below, there is no margin for the clock either


@dataclass(frozen=True, slots=True)
class Pace:
    """Progress of one stage, and its speed since the stage's first event. Times are the run's elapsed seconds."""

    first: Working
    last: Working

    @property
    def finished(self) -> bool:
        return 0 < self.last.total <= self.last.done

    @property
    def left(self) -> float | None:
        """Seconds to the stage's end at the speed so far; ``None`` while there is too little to go by."""
        seconds, done = self.last.elapsed - self.first.elapsed, self.last.done - self.first.done
        if self.finished or seconds < 1 or done <= 0:
            return None
        return (self.last.total - self.last.done) * seconds / done


@dataclass(frozen=True, slots=True)
class Busy:
    """Work in progress.

    Attributes:
        elapsed, since: the run's clock at the last event, in seconds, and the monotonic time when it was received.
        paces: of the current stages of this step by name. Encoding frames and reading the prompt alternate: they are shown as one.
        shown: the pace of the stage that the label names.
    """

    label: str
    elapsed: float = 0.0
    since: float = field(default_factory=time.monotonic)
    paces: Mapping[str, Pace] = field(default_factory=dict)
    shown: Pace | None = None

    def advance(self, event: Working) -> Busy:
        """The state after a progress event."""
        paces = {stage: pace for stage, pace in self.paces.items() if pace.last.step == event.step}
        earlier = paces.get(event.stage)
        restarted = earlier is None or event.done < earlier.last.done or event.total != earlier.last.total
        paces[event.stage] = Pace(event if earlier is None or restarted else earlier.first, event)
        stage = "encode" if event.stage == "prefill" and "encode" in paces and not paces["encode"].finished else event.stage
        if stage == "prefill" and paces[stage].finished:  # now the model writes
            return Busy(THINKING, event.elapsed, paces=paces)
        return Busy(STAGES[stage][0], event.elapsed, paces=paces, shown=paces[stage])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        waited = time.monotonic() - self.since
        clock = Text(elapsed_text(self.elapsed + waited), "dim", no_wrap=True)
        cells: list[RenderableType] = [clock, Text(self.label, no_wrap=True)]
        if self.shown and self.shown.last.total:
            now = self.shown.last
            count = f"{now.done}/{now.total} {STAGES[now.stage][1]}"
            lefts = [pace.left for pace in self.paces.values() if pace.left is not None]
            if lefts:
                count += f", {left_text(max(lefts) - waited)}"
            width = min(40, options.max_width - MARGIN - len(self.label) - len(count) - 6)
            if width >= 8:
                bar = ProgressBar(now.total, now.done, width, style="dim", complete_style="cyan", finished_style="cyan")
                cells.append(bar)
            cells.append(Text(count, "dim", no_wrap=True))
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_row(*cells)
        yield row


@dataclass(frozen=True, slots=True)
class Head:
    """What is to the left of a text, or above it: the run's clock at its start, as text, and a label with its style."""

    clock: str
    label: str
    style: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Labelled text that grows.

    Attributes:
        head: ``None`` once it is printed.
        line: the end of the text, which is not printed yet.
    """

    head: Head | None
    line: str = ""

    def add(self, text: str, width: int) -> tuple[Paragraph, list[Text]]:
        """The paragraph with more text, and the rows that are full on a terminal of this width."""
        body = Rows(width).body
        *paragraphs, rest = (self.line + text).split("\n")
        full = [line for paragraph in paragraphs for line in fold(paragraph, body) if line.strip()]
        *lines, last = fold(rest.lstrip(), body)
        return self._take([*full, *lines], last, width)

    def end(self, width: int) -> list[Text]:
        """The rows that are left."""
        return self._take(fold(self.line, Rows(width).body), "", width)[1] if self.line.strip() else []

    def row(self, width: int) -> Text:
        """The last row."""
        rows = Rows(width)
        return rows.rows(self.head, [Text(fold(self.line, rows.body)[-1].rstrip(), "dim")])[-1]

    def _take(self, lines: list[str], rest: str, width: int) -> tuple[Paragraph, list[Text]]:
        if not lines:
            return Paragraph(self.head, rest), []
        return Paragraph(None, rest), Rows(width).rows(self.head, [Text(line, "dim") for line in lines])


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of the view: clock, label, text. ``width`` is the terminal's."""

    width: int

    @property
    def narrow(self) -> bool:
        return self.width < NARROW

    @property
    def body(self) -> int:
        """Columns of the text; never fewer than one character needs."""
        return max(self.width - self._indent - 1, 2)

    @property
    def _indent(self) -> int:
        return 2 if self.width < TINY else MARGIN if self.narrow else MARGIN + LABEL + 2

    def rows(self, head: Head | None, lines: list[Text]) -> list[Text]:
        """Lines of text as rows, the first one with the head, if there is one."""
        rows = [Text.assemble(" " * self._indent, line) for line in lines]
        if head is None:
            return rows
        clock = head.clock.strip() if self.width < TINY else head.clock.rjust(CLOCK)
        left = Text.assemble((clock, "dim"), "  ", (head.label if self.narrow else head.label.ljust(LABEL), head.style))
        return [left, *rows] if self.narrow else [Text.assemble(left, "  ", lines[0]), *rows[1:]]


class LiveLine:
    """What :class:`rich.live.Live` draws."""

    def __init__(self) -> None:
        self.state: Busy | Paragraph = Busy(THINKING)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        state = self.state
        yield state.row(options.max_width) if isinstance(state, Paragraph) else state


def fold(text: str, width: int) -> list[str]:
    """Split a paragraph into lines at spaces, or anywhere if there are none; the last line keeps its trailing space, for it may grow.

    Tabs become spaces, so that a line takes the columns that are counted. Characters have up to two: lines are no narrower.
    """
    lines = []
    text, width = text.expandtabs(), max(2, width)
    while cell_len(text.rstrip(" ")) > width:
        head = chop_cells(text, width)[0]
        cut = head.rfind(" ") if text[len(head)] != " " else len(head)
        cut = cut if cut > 0 else len(head)
        lines.append(text[:cut].rstrip(" "))
        text = text[cut:].lstrip(" ")
    return [*lines, text]
