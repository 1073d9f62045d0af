"""A line for each segment, its times in front: for eyes and for grep."""

from __future__ import annotations

from sage_cli.speech.formats.base import Format, one_line
from sage_cli.speech.segment import Segment
from sage_cli.timecode import format_clock_ms


class Txt(Format):
    suffix = "txt"

    def segment(self, segment: Segment) -> str:
        return f"[{format_clock_ms(segment.start)} --> {format_clock_ms(segment.end)}]  {one_line(segment)}\n"
