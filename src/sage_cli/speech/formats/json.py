"""One JSON object with everything that is known; times in seconds."""

from __future__ import annotations

import json
from typing import Any

from sage_cli.speech.formats.base import About, Format
from sage_cli.speech.segment import Segment


class Json(Format):
    suffix = "json"
    _separator: str = "\n"

    def head(self, about: About) -> str:
        fields = {"video": about.video, "duration": round(about.duration, 3), "model": about.model}
        return json.dumps(fields, ensure_ascii=False)[:-1] + ', "segments": ['

    def segment(self, segment: Segment) -> str:
        separator, self._separator = self._separator, ",\n"
        return separator + json.dumps(record(segment), ensure_ascii=False)

    def foot(self, about: About) -> str:
        known = json.dumps({"language": about.language, "notices": about.notices}, ensure_ascii=False)
        return f"\n], {known[1:]}\n"


def record(segment: Segment) -> dict[str, Any]:
    """The segment as a JSON-ready object; words and a speaker only where it has them."""
    fields: dict[str, Any] = {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "confidence": round(segment.confidence, 3),
        "speaker_turn": segment.speaker_turn,
        "language": segment.language,
    }
    if segment.speaker:
        fields["speaker"] = segment.speaker
    if segment.words:
        fields["words"] = [
            {"start": round(word.start, 3), "end": round(word.end, 3), "text": word.text, "confidence": round(word.confidence, 3)}
            for word in segment.words
        ]
    return fields
