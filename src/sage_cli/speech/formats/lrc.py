"""LRC lyrics: a line shows from its time until the next one's, so a pause is a line without text."""

from __future__ import annotations

from sage_cli.speech.formats.base import About, Format, flat, one_line
from sage_cli.speech.segment import Segment

_PAUSE = 1.0  # seconds without speech after which the last line is taken away


class Lrc(Format):
    suffix = "lrc"
    on_screen = True
    _shown_until: float | None = None

    def head(self, about: About) -> str:
        minutes, seconds = divmod(round(about.duration), 60)
        return f"[ti:{flat(about.media)}]\n[length:{minutes:02d}:{seconds:02d}]\n\n"

    def segment(self, segment: Segment) -> str:
        pause = self._shown_until is not None and segment.start - self._shown_until > _PAUSE
        gone = f"{_stamp(self._shown_until or 0.0)}\n" if pause else ""
        self._shown_until = segment.end
        return f"{gone}{_stamp(segment.start)}{one_line(segment)}\n"

    def foot(self, about: About) -> str:
        return "" if self._shown_until is None else f"{_stamp(self._shown_until)}\n"


def _stamp(seconds: float) -> str:
    hundredths = round(seconds * 100)
    return f"[{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}]"
