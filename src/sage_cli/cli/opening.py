"""What is said before the first answer: limits of the model, the memory plan, a download."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from sage_cli.cli import console
from sage_cli.text import is_link

if TYPE_CHECKING:
    from sage_cli.session import Session
    from sage_cli.video import Video


def introduce(session: Session) -> None:
    """Warn about the limits of the bundled model, if it is used."""
    if session.bundled:
        console.note(
            "nano, the bundled model, knows coloured shapes and a few spoken words, and nothing of your footage. "
            "For your own videos, install a real model: 'sage models list'"
        )


def tell_plan(session: Session) -> None:
    """Report the memory plan if it is reduced, or if --verbose asks for it."""
    if session.remote:
        return
    plan = session.plan
    if session.options.verbose or not plan.fits or (plan.reduced and sys.stderr.isatty()):
        console.note(f"{'adapted to this machine' if plan.fits else 'this machine has too little memory'}: {plan.text}")


def ready(session: Session, name: str) -> Video:
    """A video, opened and checked, for a command that looks at it without a question. What is to say before that is said."""
    video = opened(session, name)
    session.check(video)
    introduce(session)
    tell_plan(session)
    if session.remote and session.remote.outside:  # `sage ask` says so with its events
        console.note(f"frames and prompts are sent to {session.remote.outside}")
    return video


@contextmanager
def damage_told(video: Video) -> Iterator[None]:
    """Report, after the work, what of a video cannot be decoded. Some of it is found only while the video is read."""
    try:
        yield
    finally:
        if video.damage:
            console.note(f"{video.label}: {video.damage}")


def opened(session: Session, name: str, label: str = "") -> Video:
    """A video. The download of a link is shown on stderr: by a bar on a terminal, else in one line; ``label``: of one of several videos."""
    if not is_link(name):
        return session.video(name)
    if not console.shows_progress():

        @cache
        def tell() -> None:  # once
            console.note(f"{label}{': ' if label else ''}downloading the video behind the link; it is kept in the cache")

        return session.video(name, downloading=lambda _done, _total: tell())
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

    from sage_cli.cli.bars import bars

    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with bars(*columns) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, visible=True)

        return session.video(name, downloading=show)
