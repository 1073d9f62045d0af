"""SubRip subtitles."""

from __future__ import annotations

from sage_cli.speech.formats.base import Subtitles
from sage_cli.speech.segment import Segment
from sage_cli.timecode import format_clock_ms


class Srt(Subtitles):
    suffix = "srt"
    _number: int = 0

    def cue(self, segment: Segment) -> str:
        self._number += 1
        text = "\n".join(self.lines(segment)).replace("-->", "->")  # an arrow in the text is a time line to some players
        begin, end = (format_clock_ms(time).replace(".", ",") for time in (segment.start, segment.end))
        return f"{self._number}\n{begin} --> {end}\n{text}\n\n"
