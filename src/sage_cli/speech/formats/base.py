"""What a format is, and the subtitle cues that two of them share."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sage_cli.speech.segment import Segment

SPEAKER_TURN = "[SPEAKER_TURN]"


@dataclass(frozen=True, slots=True)
class Layout:
    """How subtitles are broken.

    Attributes:
        width: most characters of a line; ``None`` for no limit.
        lines: most lines of a cue, when the width is limited; a longer segment becomes several cues.
    """

    width: int | None = None
    lines: int = 2


UNBROKEN = Layout()


@dataclass(frozen=True, slots=True)
class About:
    """What was transcribed: the media file's name, its length in seconds, the model's name, and the language (known at the end)."""

    media: str
    duration: float
    model: str
    language: str | None = None


class Format(ABC):
    """A way to write a transcript down, piece by piece as it comes: the head, every segment, the foot. Pieces end where a line does."""

    suffix: ClassVar[str]

    def __init__(self, layout: Layout = UNBROKEN) -> None:
        self.layout = layout

    def head(self, about: About) -> str:
        return ""

    @abstractmethod
    def segment(self, segment: Segment) -> str: ...

    def foot(self, about: About) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines that stand on the screen together."""

    start: float
    end: float
    lines: list[str]


def one_line(segment: Segment) -> str:
    """The text on one line, a change of speaker marked at its end as whisper.cpp marks it."""
    return " ".join(segment.text.split()) + (f" {SPEAKER_TURN}" if segment.speaker_turn else "")


def cues(segment: Segment, layout: Layout) -> Iterator[Cue]:
    """The segment as one cue or more. Where it is divided, time is shared out by the length of the text."""
    text = one_line(segment)
    lines = textwrap.wrap(text, layout.width) if layout.width else [text]
    groups = [lines[at : at + layout.lines] for at in range(0, len(lines), layout.lines)] if layout.width else [lines]
    total = sum(len(line) for line in lines) or 1
    passed, start = 0, segment.start
    for group in groups:
        passed += sum(len(line) for line in group)
        end = segment.start + (segment.end - segment.start) * passed / total
        yield Cue(start, end, group)
        start = end


def clock(seconds: float, decimal: str = ".") -> str:
    """``HH:MM:SS.mmm``, rounded to the millisecond; more than two digits of hours where there are that many."""
    millis = round(max(0.0, seconds) * 1000)
    return f"{millis // 3_600_000:02d}:{millis // 60_000 % 60:02d}:{millis // 1000 % 60:02d}{decimal}{millis % 1000:03d}"
