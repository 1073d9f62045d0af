"""What changes in place below the text of a terminal.

Rich leaves the cursor behind what it drew, and erases as many rows as it counted. A terminal that is made narrower breaks them into more
rows, and some stayed there for good. Here the cursor waits at the beginning, which terminals keep in its place, and all that follows is
erased. Rows are not broken while they are drawn: the terminal may have become narrower just now.
"""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import ControlCode, ControlType, Segment

from sage_cli.cli.keys import ERASE

# For terminals, and the nearest that rich knows, which it does on old Windows. Rows that are too long are cut; they are broken again.
_CUT: Final = "\r\x1b[?7l", (ControlType.CARRIAGE_RETURN,)
_BROKEN: Final = "\r\x1b[?7h", (ControlType.CARRIAGE_RETURN,)
_UP: Final = "\x1b[A", (ControlType.CURSOR_UP, 1)
_ERASE: Final = ERASE, (ControlType.ERASE_IN_LINE, 2)


class Drawn(Live):
    """Rich's live display, for terminals of any width at any time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._live_render = self._waiting = _Waiting(self.get_renderable(), vertical_overflow=self.vertical_overflow)

    def stop(self) -> None:
        with self._lock:
            self._waiting.stays = not self.transient
            super().stop()


class _Waiting(LiveRender):
    """Draws, and leaves the cursor at the beginning of that, or behind it if it ``stays``."""

    stays = False

    @property
    def _height(self) -> int:
        return self._shape[1] if self._shape else 0

    def position_cursor(self) -> Control:
        return _control(_ERASE)

    def restore_cursor(self) -> Control:
        return _control(*[_UP][: self._height], _ERASE)  # rich has begun a new line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.stays:
            yield from super().__rich_console__(console, options)
            return
        yield _control(_CUT)
        yield from super().__rich_console__(console, options)
        yield _control(*[_UP] * (self._height - 1), _BROKEN)


def _control(*parts: tuple[str, ControlCode]) -> Control:
    control = Control()
    control.segment = Segment("".join(text for text, _ in parts), None, [code for _, code in parts])
    return control
