"""Frames as pictures on terminals that can show some."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sage_cli.video import Video

_COLUMNS: Final = 4  # frames beside each other
_MOST: Final = 12  # frames
_WIDTH: Final = 320  # of a frame, in pixels


def show_spans(video: Video, spans: Sequence[tuple[float, float]]) -> None:
    """Show frames of the spans, in seconds, with their times. Does nothing without a picture or the extra ``pictures``, or if the terminal
    answers that it knows neither Sixel nor kitty's graphics protocol.

    Raises:
        VideoError: nothing can be decoded.
    """
    if not (video.has_video and spans and sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        return
    try:
        from textual_image.renderable import Image, SixelImage, TGPImage  # asks the terminal
    except ImportError:
        return
    if Image not in (SixelImage, TGPImage):
        return
    from PIL.Image import fromarray

    from sage_cli.cli.console import screen
    from sage_cli.cli.frames import contact_sheet
    from sage_cli.report.page import still_times

    times = sorted({time for span in spans for time in still_times(*span)})[:_MOST]
    with closing(video.frames(times, video.size_within(_WIDTH))) as frames:
        found = [*frames]
    columns = min(_COLUMNS, len(found))
    sheet = fromarray(contact_sheet(found, columns))
    screen(stderr=True).print(Image(sheet, width=f"{100 * columns // _COLUMNS}%", height="auto"))
