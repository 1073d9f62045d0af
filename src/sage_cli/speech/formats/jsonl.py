"""A JSON object a line, one for each segment: for programs that read along."""

from __future__ import annotations

import json

from sage_cli.speech.formats.base import Format
from sage_cli.speech.formats.json import record
from sage_cli.speech.segment import Segment


class Jsonl(Format):
    suffix = "jsonl"

    def segment(self, segment: Segment) -> str:
        return json.dumps(record(segment), ensure_ascii=False) + "\n"
