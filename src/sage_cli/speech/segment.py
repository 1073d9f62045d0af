"""Segments and words with their times."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a segment.

    Attributes:
        start, end: seconds on the clock of the original media.
        text: the word with its punctuation, without spaces around it.
        confidence: geometric mean of the probabilities of its tokens, 0 to 1.
    """

    start: float
    end: float
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech and its text. Segments of a transcript are in time order and do not overlap.

    Attributes:
        start, end: seconds on the clock of the original media.
        text: what was said, without spaces around it.
        confidence: geometric mean of the probabilities of its tokens, 0 to 1.
        words: its words with their times.
        speaker_turn: the model marked a change of speaker after this segment (tinydiarize models only).
        language: Whisper's code for the language that is spoken, e.g. ``"en"``.
        speaker: who says it, where subtitles name one; the text begins with the name, too, unless it is a later part of a divided cue.
    """

    start: float
    end: float
    text: str
    confidence: float
    words: tuple[Word, ...] = ()
    speaker_turn: bool = False
    language: str = "en"
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """The segments of one window, and how many seconds of the recording are finished."""

    segments: tuple[Segment, ...]
    seconds: float


@dataclass(slots=True)
class Spoken:
    """The seconds of speech in each language."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, segment: Segment) -> None:
        self.seconds[segment.language] += segment.end - segment.start

    @property
    def language(self) -> str | None:
        """The language of most of the speech; ``None`` where there is none."""
        return max(self.seconds, key=self.seconds.__getitem__, default=None)
