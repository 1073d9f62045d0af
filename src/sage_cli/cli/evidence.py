"""What ``sage ask`` saves beside its answer: a report, clips and pictures of what the answer rests on. And how a download is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sage_cli.cli import console
from sage_cli.errors import UsageError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from sage_cli.session import Session
    from sage_cli.session.conversation import Conversation


def check_evidence(options: Options, video: str) -> None:
    """Refuse what could not be written, before any work is done.

    Raises:
        UsageError: the report is neither HTML nor Markdown, or is the video; clips or pictures would go into a file.
        OSError: the report cannot be written.
    """
    if options.report:
        from sage_cli.output import check_targets
        from sage_cli.report import report_format

        report_format(options.report)
        check_targets([Path(options.report).expanduser()], [Path(video)])
    for name, folder in (("clips", options.clips), ("stills", options.stills)):
        if folder and Path(folder).expanduser().is_file():
            raise UsageError(f"--{name} {folder}: this is a file; name a folder")


def save_evidence(conversation: Conversation) -> None:
    """Write what the options ask for.

    Raises:
        SageError, OSError: it cannot be written.
    """
    options, video = conversation.session.options, conversation.video
    if options.report:
        from sage_cli.report import write_report

        write_report(Path(options.report).expanduser(), [(run, video, conversation.name) for run in conversation.runs])
    if not (options.clips or options.stills):
        return
    from sage_cli.output import open_binary
    from sage_cli.report.page import stills
    from sage_cli.timecode import format_clock

    spans = {(one["span"]["start"], one["span"]["end"]) for run in conversation.runs for one in run["evidence"]}
    for start, end in sorted(spans):
        stem = f"{video.path.stem[:150]}_{format_clock(start)}-{format_clock(end)}".replace(":", "-")
        if options.clips:
            folder = Path(options.clips).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            video.clip(start, max(end, start + 1.0), folder / f"{stem}.mp4")
        if options.stills:
            folder = Path(options.stills).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            for still in stills(video, [start, (start + end) / 2, end] if end - start > 1 else [start], video.height):
                with open_binary(folder / f"{stem}_{still.clock.replace(':', '-')}.jpg", [video.path]) as file:
                    file.write(still.data)


@contextmanager
def downloads(session: Session) -> Iterator[None]:
    """Show the download of a link on stderr: a bar on a terminal, else one line."""
    if session.options.quiet:
        yield
        return
    if not sys.stderr.isatty():
        told = False

        def tell(done: int, total: int) -> None:
            nonlocal told
            if not told:
                told = True
                console.say("downloading the video behind the link; it is kept in the cache")

        session.download_progress = tell
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=None, visible=False)
        session.download_progress = lambda done, total: bar.update(task, completed=done, total=total or None, visible=True)
        yield
    session.download_progress = None
