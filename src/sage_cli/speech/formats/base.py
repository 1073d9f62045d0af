"""What a format is, and the subtitles that two of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from sage_cli.speech.cues import SHORTEST_S
from sage_cli.speech.lines import DEFAULT, Layout, columns, wrap
from sage_cli.speech.segment import Segment
from sage_cli.text import without_controls

SPEAKER_TURN = "[SPEAKER_TURN]"


@dataclass(frozen=True, slots=True)
class About:
    """What was transcribed.

    Attributes:
        video: the media as given by the user, for programs.
        media: its name, for people.
        duration: in seconds.
        model: the model's name.
        language, notices: known at the end: the language of most of the speech, and which parts of the file are damaged or missing.
    """

    video: str
    media: str
    duration: float
    model: str
    language: str | None = None
    notices: tuple[str, ...] = ()


class Format(ABC):
    """A way to write a transcript down, piece by piece as it comes: the head, every segment, the foot. Pieces end where a line does.

    Args:
        written: the segments are cues that somebody wrote, whose times stay as they are.
    """

    suffix: ClassVar[str]
    on_screen: ClassVar[bool] = False  # players show a segment while it is said: it must fit

    def __init__(self, layout: Layout = DEFAULT, *, written: bool = False) -> None:
        self.layout, self.written = layout, written

    def head(self, about: About) -> str:
        return ""

    @abstractmethod
    def segment(self, segment: Segment) -> str: ...

    def foot(self, about: About) -> str:
        return ""


def flat(text: str) -> str:
    """Text on one line without control characters: a file's name may hold both, too."""
    return without_controls(" ".join(text.split()))


def one_line(segment: Segment) -> str:
    """The text on one line, a change of speaker marked at its end as whisper.cpp marks it."""
    return _marked(flat(segment.text), segment)


def _marked(text: str, segment: Segment) -> str:
    return f"{text} {SPEAKER_TURN}" if segment.speaker_turn else text


class Subtitles(Format):
    """Cues, each one kept until the next one is known: what was said stays on screen until it can be read, if there is time."""

    on_screen = True
    speed: ClassVar[float] = 20.0  # characters a second that people read with ease
    longer: ClassVar[float] = 1.0  # seconds that a cue may stay after the words
    gap: ClassVar[float] = 0.08  # seconds between two cues, two frames

    _waiting: Segment | None = None

    def segment(self, segment: Segment) -> str:
        written = self._stretched(segment.start - self.gap)
        self._waiting = segment
        return written

    def foot(self, about: About) -> str:
        return self._stretched(about.duration)

    def lines(self, segment: Segment) -> list[str]:
        """The cue's lines."""
        return [flat(line) for line in wrap(_marked(segment.text, segment), self.layout)]

    @abstractmethod
    def cue(self, segment: Segment) -> str:
        """A cue as it is written."""

    def _stretched(self, latest: float) -> str:
        waiting = self._waiting
        if waiting is None:
            return ""
        if self.written:
            return self.cue(waiting)
        enough = waiting.start + min(max(columns(one_line(waiting)) / self.speed, SHORTEST_S), self.layout.seconds)
        end = max(waiting.end, min(enough, waiting.end + self.longer, latest))
        return self.cue(replace(waiting, end=end))
