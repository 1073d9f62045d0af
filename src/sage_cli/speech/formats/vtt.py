"""WebVTT subtitles: https://www.w3.org/TR/webvtt1/"""

from __future__ import annotations

from dataclasses import replace
from html import escape

from sage_cli.speech.formats.base import About, Subtitles
from sage_cli.speech.segment import Segment
from sage_cli.timecode import format_clock_ms


class Vtt(Subtitles):
    suffix = "vtt"
    _language: str | None = None

    def head(self, about: About) -> str:
        return "WEBVTT\n\n"

    def cue(self, segment: Segment) -> str:
        """A cue; where another language than the first one is spoken, it says so. A speaker is ``<v NAME>`` in place of the name."""
        self._language = self._language or segment.language
        said = replace(segment, text=segment.text.removeprefix(f"{segment.speaker}:").lstrip())
        text = escape("\n".join(self.lines(said)), quote=False)
        if segment.speaker:
            text = f"<v {escape(segment.speaker, quote=False)}>{text}</v>"
        if segment.language != self._language:
            text = f"<lang {segment.language}>{text}</lang>"
        return f"{format_clock_ms(segment.start)} --> {format_clock_ms(segment.end)}\n{text}\n\n"
