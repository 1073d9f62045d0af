"""SubRip subtitles."""

from __future__ import annotations

from sage_cli.speech.cues import DEFAULT, Layout
from sage_cli.speech.formats.base import Subtitles, clock
from sage_cli.speech.segment import Segment


class Srt(Subtitles):
    suffix = "srt"

    def __init__(self, layout: Layout = DEFAULT) -> None:
        super().__init__(layout)
        self._number = 0

    def cue(self, segment: Segment) -> str:
        self._number += 1
        text = "\n".join(self.lines(segment)).replace("-->", "->")  # an arrow in the text is a time line to some players
        return f"{self._number}\n{clock(segment.start, ',')} --> {clock(segment.end, ',')}\n{text}\n\n"
