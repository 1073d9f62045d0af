"""Tables and lists on stdout: wrapped at words to a terminal's width; one row per line, never cut, in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from shutil import get_terminal_size

from sage_cli.cli import console

NARROWEST = 24  # columns in which text can be read; fewer split words


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns below a head. The last column may hold several lines.

    On a terminal the last column wraps, or is printed below the others where it would be too narrow.
    """
    lines = [tuple(map(console.neutral, row)) for row in rows]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head) - 1)]
    if sys.stdout.isatty():
        room = get_terminal_size().columns - sum(width + 2 for width in widths)
        needed = min(NARROWEST, max(len(line[-1]) for line in (head, *lines)))
        (_wrapped if room >= needed else _stacked)(lines, head)
        return
    for line in (head, *lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        console.write("  ".join([*cells, *line[-1].split("\n")]).rstrip())


def facts(rows: Iterable[tuple[str, str]], *, stderr: bool = False) -> None:
    """Names and values; a long value wraps beside its name."""
    lines = [(console.neutral(name), console.neutral(value)) for name, value in rows]
    if (sys.stderr if stderr else sys.stdout).isatty():
        _wrapped(lines, stderr=stderr)
        return
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        line = f"{name:<{width}}  {value}".rstrip()
        print(line, file=sys.stderr) if stderr else console.write(line)


def points(lines: Iterable[str]) -> None:
    """A bulleted list."""
    if sys.stdout.isatty():
        _wrapped([("-", console.neutral(line)) for line in lines], gap=1)
        return
    for line in lines:
        console.write(f"- {console.neutral(line)}")


def _stacked(rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    """For narrow terminals: the last cell of each row on lines of its own, below the others, which wrap if they must."""
    from rich.padding import Padding
    from rich.text import Text

    screen = console.screen()
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    aligned = sum(width + 2 for width in widths) - 2 <= screen.width
    for number, row in enumerate((head, *rows)):
        cells = "  ".join(cell.ljust(width) if aligned else cell for cell, width in zip(row, widths, strict=False) if cell or aligned)
        style = "" if number else "bold"
        screen.print(Text(cells.rstrip(), style))
        if row[-1]:
            screen.print(Padding(Text(row[-1], style or "dim"), (0, 0, 0, 2)))


def _wrapped(rows: Sequence[Sequence[str]], head: Sequence[str] = (), gap: int = 2, *, stderr: bool = False) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=bool(head), header_style="bold")
    columns = max(map(len, (head, *rows)))
    for number in range(columns):
        last = number == columns - 1
        grid.add_column(head[number] if head else "", no_wrap=not last, overflow="fold", ratio=1 if last else None)
    for row in rows:
        grid.add_row(*map(Text, row))
    console.screen(stderr=stderr).print(grid)
