"""WebVTT subtitles: https://www.w3.org/TR/webvtt1/"""

from __future__ import annotations

from sage_cli.speech.cues import DEFAULT, Layout
from sage_cli.speech.formats.base import About, Subtitles, clock
from sage_cli.speech.segment import Segment


class Vtt(Subtitles):
    suffix = "vtt"

    def __init__(self, layout: Layout = DEFAULT) -> None:
        super().__init__(layout)
        self._language: str | None = None

    def head(self, about: About) -> str:
        return "WEBVTT\n\n"

    def cue(self, segment: Segment) -> str:
        """A cue; where another language than the first one is spoken, it says so."""
        self._language = self._language or segment.language
        text = _escape("\n".join(self.lines(segment)))
        if segment.language != self._language:
            text = f"<lang {segment.language}>{text}</lang>"
        return f"{clock(segment.start)} --> {clock(segment.end)}\n{text}\n\n"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
