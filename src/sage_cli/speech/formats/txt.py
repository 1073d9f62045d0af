"""A line for each segment, its times in front: for eyes and for grep."""

from __future__ import annotations

from sage_cli.speech.formats.base import Format, clock, one_line
from sage_cli.speech.segment import Segment


class Txt(Format):
    suffix = "txt"

    def segment(self, segment: Segment) -> str:
        return f"[{clock(segment.start)} --> {clock(segment.end)}]  {one_line(segment)}\n"
