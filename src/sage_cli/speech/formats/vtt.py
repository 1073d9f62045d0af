"""WebVTT subtitles: https://www.w3.org/TR/webvtt1/"""

from __future__ import annotations

from sage_cli.speech.formats.base import About, Format, clock, cues
from sage_cli.speech.segment import Segment


class Vtt(Format):
    suffix = "vtt"

    def head(self, about: About) -> str:
        return "WEBVTT\n\n"

    def segment(self, segment: Segment) -> str:
        return "".join(
            f"{clock(cue.start)} --> {clock(cue.end)}\n{_escape(chr(10).join(cue.lines))}\n\n" for cue in cues(segment, self.layout)
        )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
