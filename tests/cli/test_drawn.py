"""Lines that change in place, on a terminal whose width changes meanwhile."""

from __future__ import annotations

import io

import pyte
import pytest
from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from sage_cli.cli import console as consoles
from sage_cli.cli.bars import bars
from sage_cli.cli.drawn import Drawn

LINES = 40


class Terminal:
    """A screen that breaks rows anew when its width changes, as most terminals do (others cut them)."""

    def __init__(self, columns: int) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=True, width=columns, height=LINES, color_system=None, _environ={})
        self._clear(columns)

    def _clear(self, columns: int) -> None:
        self._screen = pyte.Screen(columns, LINES)
        self._screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self._screen)

    def resize(self, columns: int, *, reflows: bool) -> None:
        self._show()
        if not reflows:
            self._screen.resize(LINES, columns)
        else:
            rows, cursor = [row.rstrip() for row in self._screen.display], self._screen.cursor
            before = sum(max(1, -(-len(row) // columns)) for row in rows[: cursor.y])
            y, x = before + cursor.x // columns + 1, cursor.x % columns + 1
            self._clear(columns)
            self._stream.feed("\n".join(rows).rstrip() + f"\x1b[{y};{x}H")
        self.console.width = columns

    @property
    def rows(self) -> list[str]:
        self._show()
        return [row.rstrip() for row in self._screen.display if row.strip()]

    def _show(self) -> None:
        self._stream.feed(self.file.getvalue())
        self.file.seek(0)
        self.file.truncate()


@pytest.mark.parametrize("reflows", [True, False])
def test_a_line_leaves_no_copy_on_a_terminal_that_becomes_narrower(reflows: bool) -> None:
    terminal = Terminal(80)
    shown = terminal.console
    with Drawn(Text("w" * 80, no_wrap=True, overflow="crop"), console=shown, transient=True, auto_refresh=False) as live:
        shown.print("first")
        for columns in (30, 13, 50, 20):
            terminal.resize(columns, reflows=reflows)
            live.refresh()
            assert terminal.rows == ["first", "w" * columns]
        terminal.resize(10, reflows=reflows)
        shown.print("second")
        assert terminal.rows == ["first", "second", "w" * 10]
        terminal.resize(5, reflows=reflows)
    assert terminal.rows == ["first", "secon", "d"] if reflows else ["first", "secon"]


def test_a_line_that_is_drawn_too_wide_is_cut() -> None:
    terminal = Terminal(80)
    with Drawn(Text("w" * 80), console=terminal.console, transient=True, auto_refresh=False) as live:
        terminal.resize(30, reflows=True)
        terminal.console.width = 80  # has not heard of it yet
        live.refresh()
        live.refresh()
        assert terminal.rows == ["w" * 30]
    terminal.console.print("after " * 10)
    assert len(terminal.rows) == 2


@pytest.mark.parametrize("transient", [True, False])
def test_bars_leave_no_copy_either(transient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(40)
    monkeypatch.setattr(consoles, "screen", lambda **_options: terminal.console)
    monkeypatch.setattr("rich.live._RefreshThread.run", lambda _self: None)  # it would draw at any time
    with bars(TextColumn("{task.description} {task.completed}"), transient=transient) as shown:
        tasks = [shown.add_task(f"a file of a long name {number}") for number in range(3)]
        for columns in (20, 30, 25, 40):
            shown.refresh()
            terminal.resize(columns, reflows=True)
        for task in tasks:
            shown.update(task, completed=100)
        shown.console.print("between")
        shown.refresh()
        after = [f"a file of a long name {number} 100" for number in range(3)]
        assert terminal.rows == ["between", *after]
    terminal.console.print("after")
    assert terminal.rows == ["between", *([] if transient else after), "after"]
