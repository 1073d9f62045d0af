"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from sage_cli.cli import console
from sage_cli.cli.keys import unseen_keys

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


@contextmanager
def progress(name: str, start: float, end: float, *, counted: bool = False, hidden: bool = False) -> Iterator[Callable[[float], None]]:
    """A progress bar with the time left, where somebody sees it and it is not ``hidden``.

    Yields a function to call with the position between ``start`` and ``end``, which is shown as a percentage, or ``counted``.
    """
    if hidden or not console.shows_progress():
        yield lambda _done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    label, count = TextColumn("{task.description}", markup=False), MofNCompleteColumn() if counted else TaskProgressColumn()
    columns = (TimeElapsedColumn(), label, BarColumn(), count, TimeRemainingColumn())
    # Rich prints above the bar what goes to the same terminal; a pipe it must not redirect.
    with bars(*columns, redirect_stdout=sys.stdout.isatty()) as shown:
        task = shown.add_task(console.neutral(name), total=end - start)
        yield lambda done: shown.update(task, completed=done - start)


@contextmanager
def bars(*columns: ProgressColumn, transient: bool = True, redirect_stdout: bool = False) -> Iterator[Progress]:
    """Bars with these columns, drawn by rich."""
    from rich.progress import Progress

    from sage_cli.cli.drawn import Drawn

    screen = console.screen(stderr=True)
    shown = Progress(*columns, console=screen)
    shown.live = Drawn(
        console=screen, get_renderable=shown.get_renderable, transient=transient, redirect_stdout=redirect_stdout, refresh_per_second=10
    )
    keys = unseen_keys() if screen.is_interactive else nullcontext()  # rich draws none on a dumb terminal
    with keys, shown:
        yield shown
