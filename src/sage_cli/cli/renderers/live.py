"""The one line of the live view that changes in place: a clock with the current work, or the last line of text that still grows.

Rich draws it from a thread of its own, so :class:`LiveLine` holds one immutable state and replaces it as a whole.
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


@dataclass(frozen=True, slots=True)
class Pace:
    """Progress of one stage, and its speed since the stage's first event. Times are the run's elapsed seconds."""

    first: Working
    last: Working

    @property
    def finished(self) -> bool:
        return self.last.done >= self.last.total

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
    """

    label: str
    elapsed: float = 0.0
    since: float = field(default_factory=time.monotonic)
    paces: Mapping[str, Pace] = field(default_factory=dict)

    def advance(self, event: Working) -> Busy:
        """The state after a progress event."""
        paces = {stage: pace for stage, pace in self.paces.items() if pace.last.step == event.step}
        earlier = paces.get(event.stage)
        restarted = earlier is None or event.done < earlier.last.done or event.total != earlier.last.total
        paces[event.stage] = Pace(event if earlier is None or restarted else earlier.first, event)
        shown = "encode" if event.stage == "prefill" and "encode" in paces and not paces["encode"].finished else event.stage
        return Busy(STAGES[shown][0], event.elapsed, paces={**paces, shown: paces.pop(shown)})

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        waited = time.monotonic() - self.since
        cells: list[RenderableType] = [Text(elapsed_text(self.elapsed + waited), "dim"), Text(self.label, no_wrap=True)]
        if self.paces and (pace := [*self.paces.values()][-1]).last.total:  # the last one is shown
            count = f"{pace.last.done}/{pace.last.total} {STAGES[pace.last.stage][1]}"
            lefts = [other.left for other in self.paces.values() if other.left is not None]
            if lefts:
                count += f", {left_text(max(lefts) - waited)}"
            width = min(40, options.max_width - MARGIN - len(self.label) - len(count) - 6)
            if width >= 8:
                bar = ProgressBar(pace.last.total, pace.last.done, width, style="dim", complete_style="cyan", finished_style="cyan")
                cells.append(bar)
            cells.append(Text(count, "dim", no_wrap=True))
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_row(*cells)
        yield row


class Paragraph:
    """Labelled text that grows: full lines are returned to be printed, ``row`` is the last one."""

    def __init__(self, elapsed: float, label: str, style: str, width: int) -> None:
        self._rows = Rows(width)
        self._head: tuple[str, str, str] | None = (elapsed_text(elapsed), label, style)
        self._line = ""
        self.row = Text("\n").join(self._render("", self._head))

    def add(self, text: str) -> list[Text]:
        *paragraphs, rest = (self._line + text).split("\n")
        full = [line for paragraph in paragraphs for line in fold(paragraph, self._rows.body) if line.strip()]
        *lines, self._line = fold(rest.lstrip(), self._rows.body)
        rows = [row for line in (*full, *lines) for row in self._take(line)]
        self.row = self._render(self._line, self._head)[-1]
        return rows

    def end(self) -> list[Text]:
        return self._take(self._line) if self._line.strip() else []

    def _take(self, line: str) -> list[Text]:
        rows, self._head = self._render(line, self._head), None
        return rows

    def _render(self, line: str, head: tuple[str, str, str] | None) -> list[Text]:
        return self._rows.rows(*(head or ("", "", "")), [Text(line, "dim")], first=head is not None)


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of the view: clock, label, text. ``width`` is the terminal's."""

    width: int

    @property
    def narrow(self) -> bool:
        return self.width < NARROW

    @property
    def body(self) -> int:
        """Columns of the text."""
        return max(self.width - MARGIN - (0 if self.narrow else LABEL + 2) - 1, 8)

    def rows(self, clock: str, label: str, style: str, lines: list[Text], *, first: bool = True) -> list[Text]:
        """Lines of text as rows; the first one carries the clock and the label."""
        indent = " " * MARGIN if self.narrow else " " * (MARGIN + LABEL + 2)
        head = Text.assemble((clock.rjust(CLOCK), "dim"), "  ", (label if self.narrow else label.ljust(LABEL), style))
        if not first:
            return [Text.assemble(indent, line) for line in lines]
        if self.narrow:
            return [head, *(Text.assemble(indent, line) for line in lines)]
        return [Text.assemble(head, "  ", lines[0]), *(Text.assemble(indent, line) for line in lines[1:])]


class LiveLine:
    """What :class:`rich.live.Live` draws."""

    def __init__(self) -> None:
        self.state: Busy | Paragraph = Busy(THINKING)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        state = self.state
        yield state.row if isinstance(state, Paragraph) else state


def fold(text: str, width: int) -> list[str]:
    """Split a paragraph into lines at spaces, or anywhere if there are none; the last line keeps its trailing space, for it may grow."""
    lines = []
    while cell_len(text.rstrip(" ")) > width:
        head = chop_cells(text, width)[0]
        cut = head.rfind(" ") if text[len(head)] != " " else len(head)
        cut = cut if cut > 0 else len(head)
        lines.append(text[:cut].rstrip(" "))
        text = text[cut:].lstrip(" ")
    return [*lines, text]
