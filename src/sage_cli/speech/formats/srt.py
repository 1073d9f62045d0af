"""SubRip subtitles."""

from __future__ import annotations

from sage_cli.speech.formats.base import UNBROKEN, Format, Layout, clock, cues
from sage_cli.speech.segment import Segment


class Srt(Format):
    suffix = "srt"

    def __init__(self, layout: Layout = UNBROKEN) -> None:
        super().__init__(layout)
        self._number = 0

    def segment(self, segment: Segment) -> str:
        written = ""
        for cue in cues(segment, self.layout):
            self._number += 1
            text = "\n".join(cue.lines).replace("-->", "->")  # an arrow in the text is a time line to some players
            written += f"{self._number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{text}\n\n"
        return written
