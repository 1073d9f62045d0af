"""Markdown to read: paragraphs, each with the time at which it begins."""

from __future__ import annotations

from sage_cli.speech.formats.base import About, Format, flat, one_line
from sage_cli.speech.segment import Segment
from sage_cli.text import escape_markdown
from sage_cli.timecode import format_clock

_PAUSE = 2.0  # seconds without speech that begin a paragraph
_LONGEST = 60.0  # seconds a paragraph may go on


class Md(Format):
    suffix = "md"
    _began: float | None = None
    _last: float = 0.0

    def head(self, about: About) -> str:
        return f"# {escape_markdown(flat(about.media))}\n"

    def segment(self, segment: Segment) -> str:
        fresh = self._began is None or segment.start - self._last > _PAUSE or segment.end - self._began > _LONGEST
        self._last = segment.end
        if not fresh:
            return f"{escape_markdown(one_line(segment))}\n"
        self._began = segment.start
        return f"\n**{format_clock(segment.start)}** {escape_markdown(one_line(segment))}\n"
