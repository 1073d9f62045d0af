"""A JSON object per line, one for each segment, with the name of its media: for programs that read along."""

from __future__ import annotations

import json

from sage_cli.speech.formats.base import About, Format
from sage_cli.speech.formats.json import record
from sage_cli.speech.segment import Segment


class Jsonl(Format):
    suffix = "jsonl"
    _video: str = ""

    def head(self, about: About) -> str:
        self._video = about.video
        return ""

    def segment(self, segment: Segment) -> str:
        return json.dumps({"video": self._video, **record(segment)}, ensure_ascii=False) + "\n"
