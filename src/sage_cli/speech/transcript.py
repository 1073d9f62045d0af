"""The transcript of a recording or of a part of it. A part is always a slice of the whole.

A recording is transcribed in chapters of about five minutes. Where a chapter begins depends only on the audio around that point, and each
chapter is decoded by itself, without context from the one before. So a part costs only the chapters that it touches, gives the text that
the whole would give, and is reused when the whole is transcribed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from typing import Protocol

import numpy as np

from sage_cli.speech.cache import Chapter, TranscriptCache
from sage_cli.speech.languages import SURE
from sage_cli.speech.segment import Progress, Segment
from sage_cli.speech.transcriber import Checkpoint, Part, Transcriber
from sage_cli.speech.vad import FRAME, levels
from sage_cli.speech.whisper import RATE, Samples

CHAPTER = 300.0  # seconds
_AROUND = 8.0  # seconds on each side of five full minutes in which a chapter may begin
_SHORTEST = 30.0  # seconds of a last chapter
_LANGUAGE_WINDOWS = 10  # windows of speech after which the most likely language is taken


class Recording(Protocol):
    """Something to transcribe, e.g. a :class:`sage_cli.video.Video`."""

    @property
    def duration(self) -> float:
        """Seconds."""
        ...

    def audio_blocks(self, start: float, end: float) -> Iterable[Samples]:
        """The audio of ``[start, end)``, 16 kHz mono in blocks of any length."""
        ...


class Sound:
    """A recording in memory.

    Args:
        samples: mono ``float32`` at 16 kHz.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.duration = len(samples) / RATE

    def audio_blocks(self, start: float, end: float) -> Iterable[Samples]:
        part = self._samples[round(start * RATE) : round(end * RATE)]
        return (part[at : at + 30 * RATE] for at in range(0, len(part), 30 * RATE))


def near_beginnings(start: float, end: float, count: int) -> list[float]:
    """Up to ``count`` times, spread over ``[start, end)``, at which a chapter has just begun: what is said there costs one window each."""
    first = math.ceil(start / CHAPTER) if start else 0
    numbers = range(first, int((end - _SHORTEST) // CHAPTER) + 1)
    chosen = {numbers[int((n + 0.5) * len(numbers) / count)] for n in range(count)} if numbers else set[int]()
    return [number * CHAPTER + _AROUND for number in sorted(chosen)]


class Transcript:
    """The transcript of a recording, decoded on demand and cached.

    Args:
        transcriber: the model and its options.
        recording: what to transcribe.
        media_id: identifies its content: the key in the cache.
        cache: of transcripts; ``None``: none.
    """

    def __init__(self, transcriber: Transcriber, recording: Recording, media_id: str, cache: TranscriptCache | None = None) -> None:
        self._transcriber, self._recording = transcriber, recording
        self._cache = cache or TranscriptCache(None)
        self._stem = f"{media_id}-{transcriber.identity}"
        self._count = max(1, int((recording.duration - _SHORTEST) // CHAPTER) + 1)
        self._language: str | None = None  # "" if nobody speaks

    @property
    def source(self) -> str:
        """The model and what it runs on; that it was not needed, while all segments came from the cache."""
        device = self._transcriber.device
        return f"{self._transcriber.name}, cached" if device is None else f"{self._transcriber.name} on {device}"

    def is_cached(self, start: float, end: float) -> bool:
        """Whether nothing of ``[start, end)`` would have to be decoded."""
        for number in range(max(0, int((start - _AROUND) // CHAPTER)), self._count):
            chapter = self._cache.load(self._stem, number)
            if chapter is None:
                return False
            if not chapter.done:
                return bool(chapter.parts) and chapter.start + chapter.parts[-1].after.seconds >= end
            if chapter.end >= end:
                return True
        return False

    def segments(self, start: float = 0.0, end: float | None = None) -> Iterator[Segment]:
        """The segments that reach into ``[start, end)``, in time order and without overlaps.

        Args:
            start, end: seconds of the recording; by default all of it.

        Raises:
            ModelError: whisper.cpp failed.
            VideoError: the recording cannot be read.
        """
        for part in self.parts(start, end):
            yield from part.segments

    def parts(self, start: float = 0.0, end: float | None = None) -> Generator[Progress]:
        """As :meth:`segments`, a window at a time, also where nobody speaks, and where only the language is to be found."""
        end = self._recording.duration if end is None else min(end, self._recording.duration)
        first = max(0, int((start - _AROUND) // CHAPTER))
        for number in range(first, self._count):
            if number and number * CHAPTER - _AROUND >= end:
                return
            chapter = self._cache.load(self._stem, number) or Chapter(self._border(number), self._border(number + 1))
            if chapter.end <= start or chapter.start >= end:
                continue
            for part in self._parts(number, chapter):
                done = chapter.start + part.after.seconds
                inside = tuple(segment for segment in part.segments if segment.start < end and segment.end > start)
                yield Progress(inside, min(max(done, start), end))
                if done >= end:
                    break

    def _parts(self, number: int, chapter: Chapter) -> Iterator[Part]:
        """The parts of a chapter: the cached ones, then the rest as they are decoded."""
        yield from chapter.parts
        if chapter.done:
            return
        blocks = self._recording.audio_blocks(chapter.start, chapter.end)
        for _ in self._find_language():
            yield Part((), Checkpoint())
        after = chapter.parts[-1].after if chapter.parts else None
        with self._cache.recorder(self._stem, number, chapter) as record:
            parts = self._transcriber.parts(blocks, start=chapter.start, after=after, language=self._language)
            for part in parts:
                record.part(part)
                yield part
            record.done()

    def _border(self, number: int) -> float:
        """Where a chapter begins, in seconds: in the longest pause around its nominal start, or at the quietest moment."""
        if number == 0:
            return 0.0
        if number >= self._count:
            return self._recording.duration
        middle = number * CHAPTER
        start = middle - _AROUND
        sound = np.concatenate([np.zeros(0, np.float32), *self._recording.audio_blocks(start, middle + _AROUND)])
        if len(sound) < FRAME:
            return middle
        flags = self._transcriber.speech_flags(sound)
        edges = np.flatnonzero(np.diff(np.concatenate([[True], flags, [True]]).astype(np.int8)))
        if len(edges):
            longest = int(np.argmax(edges[1::2] - edges[::2]))
            frame = int(edges[2 * longest] + edges[2 * longest + 1]) // 2
        else:
            frame = int(np.argmin(np.convolve(levels(sound), np.ones(9) / 9, "same")[4:-4])) + 4
        return start + frame * FRAME / RATE

    def _find_language(self) -> Iterator[None]:
        """Detect the language, unless it need not be: that of the first window in which the model is sure. Yields after each window."""
        if not self._transcriber.needs_language or self._language is not None:
            return
        self._language = self._cache.language(self._stem)
        if self._language is not None:
            return
        best, tried = ("", 0.0), 0
        borders = ((self._border(number), self._border(number + 1)) for number in range(self._count))
        for found in (one for border in borders for one in self._transcriber.guess_languages(self._recording.audio_blocks(*border))):
            yield
            best, tried = max(best, found, key=lambda guess: guess[1]), tried + bool(found[0])
            if best[1] >= SURE or tried >= _LANGUAGE_WINDOWS:
                break
        self._language = best[0]
        if self._language:
            self._cache.keep_language(self._stem, self._language)
