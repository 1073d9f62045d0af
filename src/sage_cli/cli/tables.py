"""Tables and lists on stdout: wrapped at words to a terminal's width; one row per line, never cut, in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from sage_cli.cli import console


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns below a head; on a terminal the last column wraps, the others keep their width."""
    lines = [tuple(map(console.neutral, row)) for row in rows]
    if sys.stdout.isatty():
        _wrapped(lines, head)
        return
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head) - 1)]
    for line in (head, *lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        console.write("  ".join([*cells, line[-1]]).rstrip())


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values; a long value wraps beside its name."""
    lines = [(console.neutral(name), console.neutral(value)) for name, value in rows]
    if sys.stdout.isatty():
        _wrapped(lines)
        return
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        console.write(f"{name:<{width}}  {value}".rstrip())


def points(lines: Iterable[str]) -> None:
    """A bulleted list."""
    if sys.stdout.isatty():
        _wrapped([("-", console.neutral(line)) for line in lines], gap=1)
        return
    for line in lines:
        console.write(f"- {console.neutral(line)}")


def _wrapped(rows: Sequence[Sequence[str]], head: Sequence[str] = (), gap: int = 2) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_header=bool(head), header_style="bold")
    columns = max(map(len, (head, *rows)))
    for number in range(columns):
        last = number == columns - 1
        grid.add_column(head[number] if head else "", no_wrap=not last, overflow="fold", ratio=1 if last else None)
    for row in rows:
        grid.add_row(*map(Text, row))
    Console(highlight=False).print(grid)
