"""Comma-separated values with a header line (RFC 4180 but for the line ends); times in seconds."""

from __future__ import annotations

import csv
import io

from sage_cli.speech.formats.base import About, Format, one_line
from sage_cli.speech.segment import Segment


class Csv(Format):
    suffix = "csv"

    def head(self, about: About) -> str:
        return "start,end,confidence,language,text\n"

    def segment(self, segment: Segment) -> str:
        return row(f"{segment.start:.3f}", f"{segment.end:.3f}", f"{segment.confidence:.3f}", segment.language, one_line(segment))


def row(*fields: str) -> str:
    """A line with these fields."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()
