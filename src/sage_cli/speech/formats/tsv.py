"""Tab-separated values with a header line; times in whole milliseconds, as openai-whisper writes them."""

from __future__ import annotations

from sage_cli.speech.formats.base import About, Format, one_line
from sage_cli.speech.segment import Segment


class Tsv(Format):
    suffix = "tsv"

    def head(self, about: About) -> str:
        return "start\tend\ttext\n"

    def segment(self, segment: Segment) -> str:
        return f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t{one_line(segment)}\n"
