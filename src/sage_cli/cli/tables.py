"""Tables, lists and text on stdout: wrapped at words to a terminal's width; one row per line, never cut, in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sage_cli.cli import console

if TYPE_CHECKING:
    from rich.console import Console

NARROWEST = 24  # columns in which text can be read; fewer split words


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns below a head. The last column may hold several lines.

    On a terminal the last column wraps, or is printed below the others where it would be too narrow.
    """
    lines = [tuple(head), *(tuple(map(console.neutral, row)) for row in rows)]
    if sys.stdout.isatty():
        _fitted(lines, head=True)
        return
    widths = _widths(lines)
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        console.write("  ".join([*cells, *line[-1].split("\n")]).rstrip())


def facts(rows: Iterable[tuple[str, str]], *, stderr: bool = False) -> None:
    """Names and values; a long value wraps beside its name, or below it where that would be too narrow."""
    lines = [(console.neutral(name), console.neutral(value)) for name, value in rows]
    if (sys.stderr if stderr else sys.stdout).isatty():
        _fitted(lines, stderr=stderr)
        return
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        line = f"{name:<{width}}  {value}".rstrip()
        print(line, file=sys.stderr) if stderr else console.write(line)


def points(lines: Iterable[str]) -> None:
    """A bulleted list."""
    if sys.stdout.isatty():
        _wrapped([("-", console.neutral(line)) for line in lines], console.screen(), gap=1)
        return
    for line in lines:
        console.write(f"- {console.neutral(line)}")


def text(lines: str) -> None:
    """Text as it is, but wrapped at words on a terminal."""
    if not sys.stdout.isatty():
        console.write(console.neutral(lines))
        return
    from rich.text import Text

    console.screen().print(Text(console.neutral(lines)))


def _fitted(rows: Sequence[Sequence[str]], *, head: bool = False, stderr: bool = False) -> None:
    """Rows of cells, the first one a head; as the terminal's width allows."""
    if not rows:
        return
    screen = console.screen(stderr=stderr)
    room = screen.width - sum(width + 2 for width in _widths(rows))
    fits = room >= min(NARROWEST, max(len(row[-1]) for row in rows))
    (_wrapped if fits else _stacked)(rows, screen, head=head)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Columns of all cells but the last one of each row."""
    return [max(map(len, column)) for column in [*zip(*rows, strict=True)][:-1]]


def _stacked(rows: Sequence[Sequence[str]], screen: Console, *, head: bool) -> None:
    """For narrow terminals: the last cell of each row on lines of its own, below the others, which wrap if they must."""
    from rich.padding import Padding
    from rich.text import Text

    widths = _widths(rows)
    aligned = sum(width + 2 for width in widths) - 2 <= screen.width
    for number, row in enumerate(rows):
        cells = "  ".join(cell.ljust(width) if aligned else cell for cell, width in zip(row, widths, strict=False) if cell or aligned)
        style = "bold" if head and number == 0 else ""
        screen.print(Text(cells.rstrip(), style))
        if row[-1]:
            screen.print(Padding(Text(row[-1], style or "dim"), (0, 0, 0, 2)))


def _wrapped(rows: Sequence[Sequence[str]], screen: Console, *, head: bool = False, gap: int = 2) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=head, header_style="bold")
    names, body = (rows[0], rows[1:]) if head else ([""] * len(rows[0]), rows)
    for number, name in enumerate(names, 1):
        last = number == len(names)
        grid.add_column(name, no_wrap=not last, overflow="fold", ratio=1 if last else None)
    for row in body:
        grid.add_row(*map(Text, row))
    screen.print(grid)
