"""Cut audio of any length into windows of speech, at quiet moments.

Two stages, each in constant memory. :func:`find_speech` marks the speech in chunks on a fixed grid of the stream. :class:`Packer` fills
windows with it, leaves long pauses out and remembers where each sample came from. Neither depends on what came before a point of the
stream, so work can resume at the end of any window, or inside one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sage_cli.speech.vad import FRAME, Detector, Flags, levels
from sage_cli.speech.whisper import RATE, Samples

CHUNK = 1000 * FRAME  # 32 s: the grid
LONG_SILENCE = 30 * RATE  # after this much of it a window is closed, full or not

_BEFORE, _AFTER = 32 * FRAME, 16 * FRAME  # what the detector sees around a chunk
_BLIP = 2  # fewer than this many frames in a row are a click
_SMOOTH = 9  # frames, 0.3 s: the pause between two words
_PAUSE_IN_WORD = 8  # frames, 0.26 s: more of a pause is between words
_GROW = 16  # frames, 0.5 s: more of speech that no word covers is a word that is missing
_PAUSE = 0.6  # seconds; longer pauses are all between sentences
_WORTH = 20.0  # dB by which the end of a window prefers such a pause
_QUIET = -60.0  # dBFS; below this one pause is as good as another


@dataclass(frozen=True, slots=True)
class Span:
    """Speech with a little air on both sides.

    Attributes:
        start: in samples from the start of the stream, a multiple of ``FRAME``.
        samples: the audio.
        active: the detector's flag for each frame.
    """

    start: int
    samples: Samples
    active: Flags

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    def split(self, at: int) -> tuple[Span, Span]:
        frame = at // FRAME
        return (Span(self.start, self.samples[:at], self.active[:frame]), Span(self.start + at, self.samples[at:], self.active[frame:]))


@dataclass(frozen=True)
class Window:
    """Spans of speech joined together.

    Attributes:
        spans: in time order; none where a chunk held no speech.
        resume: where in the stream to continue after this window, in samples.
        cut: it ends because it is full, not because a silence follows.
    """

    spans: tuple[Span, ...]
    resume: int
    cut: bool = False
    _offsets: list[int] = field(init=False, repr=False, compare=False)
    _active: Flags = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_offsets", [0, *np.cumsum([len(span.samples) for span in self.spans]).tolist()])
        object.__setattr__(self, "_active", np.concatenate([np.zeros(0, bool), *(span.active for span in self.spans)]))

    @property
    def samples(self) -> Samples:
        return np.concatenate([span.samples for span in self.spans])

    @property
    def seconds(self) -> float:
        return self._offsets[-1] / RATE

    def tighten(self, start: float, end: float) -> tuple[float, float] | None:
        """The part of a stretch of the window, in seconds, from its first to its last speech; ``None`` if it has none."""
        active = self._active
        first, last = (round(start * RATE) // FRAME, max(round(start * RATE) // FRAME + 1, -(-round(end * RATE) // FRAME)))
        heard = np.flatnonzero(active[first:last])
        if not len(heard):
            return None
        step = FRAME / RATE
        # Only what is surely not speech is taken away: a frame on each side stays.
        return max(start, (first + int(heard[0]) - 1) * step), min(end, (first + int(heard[-1]) + 2) * step)

    def on_clock(self, start: float, end: float) -> tuple[float, float]:
        """A stretch of the window, in seconds, as a stretch of the stream."""
        return self._place(start, bisect_right(self._offsets, start * RATE)), self._place(end, bisect_left(self._offsets, end * RATE))

    def word_on_clock(self, start: float, end: float) -> tuple[float, float]:
        """As :meth:`on_clock` for a word, which cannot span a pause: it is placed in the span that holds more of it."""
        first, last = bisect_right(self._offsets, start * RATE), bisect_left(self._offsets, end * RATE)
        # A word may end past the window's end.
        pauses = [n for n in range(first, min(last, len(self.spans))) if self.spans[n].start > self.spans[n - 1].end]
        for border in (self._offsets[n] / RATE for n in pauses):
            if border - start >= end - border:
                end = border
                break
            start = border
        return self.on_clock(start, end)

    def snap(self, start: float, end: float) -> tuple[float, float] | None:
        """Where in a stretch of the window, in seconds, a word is: the run of speech that fills most of it; ``None`` if it has none.

        A word does not go on through a pause. Of equal runs the later one counts: attention tends to come early.
        """
        step = FRAME / RATE
        first = int(start / step)
        runs = _runs(self._active[first : max(first + 1, -int(-end // step))])
        places = [(max(start, (first + low - 1) * step), min(end, (first + high) * step)) for low, high in runs]
        begin, stop = max(reversed(places), key=lambda place: place[1] - place[0], default=(start, start))
        return (begin, stop) if begin < stop else None

    def limits(self, start: float, end: float, slip: float) -> tuple[float, float]:
        """Between which times a word must end that the model puts between two timestamps, in seconds of the window.

        Timestamps are not exact: one that is nearer than ``slip`` to a pause means the pause.
        """
        low, high = start - slip, end + slip
        for first, last in self._gaps:
            if first - slip <= start <= last + slip:
                low = last
            if first - slip <= end <= last + slip and last > low:
                high = last
        return low, high

    def grow(self, start: float, end: float, before: float, after: float) -> tuple[float, float]:
        """A word's place, extended to the speech around it that belongs to no other word.

        Args:
            start, end: the word, in seconds of the window.
            before, after: the end of the word before and the start of the next one.
        """
        step = FRAME / RATE
        first, last = (min(int(time / step + 0.5), len(self._active)) for time in (start, end))
        low, high = first, last
        while low > 0 and low * step > before and first - low < _GROW and self._active[low - 1]:
            low -= 1
        while high < len(self._active) and high * step < after and high - last < _GROW and self._active[high]:
            high += 1
        if low * step <= before + step or first - low >= _GROW:  # it is the word before that ends late
            low = first
        if high * step >= after - step or high - last >= _GROW:
            high = last
        return (low * step if low < first else start), (high * step if high > last else end)

    def pauses(self) -> list[float]:
        """The middles of the pauses between what is said, in seconds of the window."""
        return [(first + last) / 2 for first, last in self._gaps]

    @cached_property
    def runs(self) -> list[tuple[float, float]]:
        """Start and end of what is said without a pause, in seconds of the window."""
        return [(first * FRAME / RATE, last * FRAME / RATE) for first, last in _runs(self._active)]

    @property
    def _gaps(self) -> list[tuple[float, float]]:
        """Where the pauses begin and end."""
        return [(before[1], after[0]) for before, after in pairwise(self.runs)]

    def middle(self) -> float:
        """The quietest moment around the middle, in seconds of the window."""
        return _quietest(list(self.spans), round(0.6 * self._offsets[-1])) / RATE

    def until(self, seconds: float) -> Window:
        """The window up to a time of its own."""
        head, rest = _divide(list(self.spans), -(-round(seconds * RATE) // FRAME) * FRAME)
        return Window(tuple(head), rest[0].start, cut=True)

    def island(self, start: float, end: float, least: float) -> tuple[float, float]:
        """Limit a time range to the span of audio that holds most of its speech.

        Args:
            start, end: seconds of the window.
            least: minimum seconds of speech in that span; with less, the range is returned unchanged.
        """
        edges = [offset / RATE for offset in self._offsets]
        parts = [(max(start, low), min(end, high)) for low, high in pairwise(edges) if low < end and high > start]
        best = max(parts, key=lambda part: self.speech_within(*part), default=(start, end))
        return best if self.speech_within(*best) >= least else (start, end)

    def share(self, start: float, end: float, fractions: Sequence[float]) -> list[float]:
        """Times in a range of the window, in seconds, at which the given fractions of its speech have passed."""
        edges, passed = self._speech(start, end)
        return [float(t) for t in np.interp(np.array(fractions), passed, edges)]

    @property
    def speech(self) -> float:
        """Seconds in which the detector found speech."""
        return float(np.count_nonzero(self._active)) * FRAME / RATE

    def speech_within(self, start: float, end: float) -> float:
        """Seconds of speech in a stretch of the window."""
        return float(np.count_nonzero(self._active[int(start * RATE) // FRAME : -int(-end * RATE // FRAME)])) * FRAME / RATE

    def speech_after(self, at: float) -> float:
        """Seconds of speech after a point of the window."""
        return float(np.count_nonzero(self._active[-(-round(at * RATE) // FRAME) :]) * FRAME / RATE)

    def _speech(self, start: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The frames' edges in a stretch, in seconds, and the fraction of its speech before each. A little of it is in every frame."""
        active = self._active
        edges = np.clip(np.arange(len(active) + 1) * FRAME / RATE, start, end)
        passed = np.concatenate([[0.0], np.cumsum(np.diff(edges) * np.where(active, 1.0, 0.02))])
        return edges, passed / max(passed[-1], 1e-9)

    def _place(self, seconds: float, after: int) -> float:
        index = min(max(after - 1, 0), len(self.spans) - 1)
        return (self.spans[index].start + min(seconds * RATE, self._offsets[-1]) - self._offsets[index]) / RATE


def find_speech(blocks: Iterable[Samples], detect: Detector, padding: float, resume: int = 0) -> Iterator[tuple[int, list[Span]]]:
    """Mark the speech in a stream.

    Args:
        blocks: 16 kHz mono from the very start of the stream, in pieces of any length.
        padding: seconds kept on both sides of speech.
        resume: samples from the start to skip.

    Yields:
        For each chunk of the grid, its end in samples and its spans. A span does not cross the end of a chunk: the next one continues it.
    """
    kept_frames = round(padding * RATE / FRAME)
    for start, before, chunk, after in _chunks(blocks):
        end = start + len(chunk)
        if end <= resume:
            continue
        flags = detect(np.concatenate([before, chunk, after]))
        flags = _without_blips(flags)
        kept = np.convolve(flags, np.ones(2 * kept_frames + 1), "same") > 0.5
        first = len(before) // FRAME
        last = first - (-len(chunk) // FRAME)
        yield end, _spans(start, chunk, flags[first:last], kept[first:last], resume)


class Packer:
    """Fills windows with speech.

    Args:
        speech: as :func:`find_speech` yields it.
        longest: samples that go into a window.
    """

    def __init__(self, speech: Iterator[tuple[int, list[Span]]], longest: int) -> None:
        self._speech, self._longest = speech, longest // FRAME * FRAME
        self._waiting: list[Span] = []
        self._end, self._over = 0, False

    def next(self) -> Window | None:
        """The next window; ``None`` at the end. A window without spans reports progress through a silence."""
        while True:
            waiting = self._waiting
            if sum(len(span.samples) for span in waiting) > self._longest:
                head, self._waiting = _divide(waiting, _quietest(waiting, self._longest))
                return Window(tuple(head), self._waiting[0].start, cut=True)
            if waiting and (self._over or self._end - waiting[-1].end >= LONG_SILENCE):
                self._waiting = []
                return Window(tuple(waiting), self._end)
            if self._over:
                return None
            found = next(self._speech, None)
            if found is None:
                self._over = True
            else:
                self._end, spans = found
                self._waiting = _joined([*waiting, *spans])
                if not self._waiting:
                    return Window((), self._end)

    def take_back(self, window: Window, at: float) -> int:
        """Let the next window begin inside the last one.

        Args:
            at: seconds of the window from which to decode again.

        Returns:
            Where in the stream that is, in samples.
        """
        _, rest = _divide(list(window.spans), -(-round(at * RATE) // FRAME) * FRAME)
        self._waiting = _joined([*rest, *self._waiting])
        return rest[0].start


def _joined(spans: list[Span]) -> list[Span]:
    """Adjacent spans merged, so that it does not matter how the speech was divided."""
    joined: list[Span] = []
    for span in spans:
        if joined and joined[-1].end == span.start:
            last = joined.pop()
            span = Span(last.start, np.concatenate([last.samples, span.samples]), np.concatenate([last.active, span.active]))
        joined.append(span)
    return joined


def _chunks(blocks: Iterable[Samples]) -> Iterator[tuple[int, Samples, Samples, Samples]]:
    """The grid: start of each chunk, the audio before it, the chunk, the audio after it."""
    held: list[Samples] = []
    length, start = 0, 0
    before = np.zeros(0, np.float32)
    for block in blocks:
        held.append(block)
        length += len(block)
        while length >= CHUNK + _AFTER:
            sound = np.concatenate(held)
            yield start, before, sound[:CHUNK], sound[CHUNK : CHUNK + _AFTER]
            before, held = sound[CHUNK - _BEFORE : CHUNK], [sound[CHUNK:].copy()]
            length, start = length - CHUNK, start + CHUNK
    sound = np.concatenate([*held, np.zeros(0, np.float32)])
    for at in range(0, length, CHUNK):
        yield (start + at, before, sound[at : at + CHUNK], sound[at + CHUNK : at + CHUNK + _AFTER])
        before = sound[at + CHUNK - _BEFORE : at + CHUNK]


def _without_blips(flags: Flags) -> Flags:
    found, flags = _set_runs(flags), flags.copy()
    for first, last in found:
        if last - first < _BLIP and first > 0 and last < len(flags):
            flags[first:last] = False
    return flags


def _set_runs(flags: Flags) -> list[tuple[int, int]]:
    """First frame and frame after the last of every run of set flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def _runs(active: Flags) -> list[tuple[int, int]]:
    """First frame and frame after the last of every run of speech; pauses within words do not end a run."""
    frames = np.flatnonzero(active)
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > _PAUSE_IN_WORD) + 1) if len(frames) else []
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


def _spans(start: int, chunk: Samples, flags: Flags, kept: Flags, resume: int) -> list[Span]:
    spans = []
    for first, last in _set_runs(kept):
        first = max(first, (resume - start) // FRAME)
        if first < last:
            spans.append(Span(start + first * FRAME, chunk[first * FRAME : last * FRAME].copy(), flags[first:last].copy()))
    return spans


def _quietest(spans: list[Span], longest: int) -> int:
    """Where to cut, in samples from the start: in the last third of what fits, in a long pause, late, at a quiet moment."""
    sound = np.concatenate([span.samples for span in spans])[:longest]
    level = np.convolve(np.maximum(levels(sound), _QUIET), np.ones(_SMOOTH) / _SMOOTH, "same")
    first, last = longest * 2 // 3 // FRAME, len(level) - _SMOOTH // 2  # the last few are smoothed with the zeros beyond the end
    haste = np.arange(last - first, 0, -1) * FRAME / RATE  # 1 dB a second
    # In noise a pause between sentences is hardly quieter than one between words, but it is longer.
    pauses = np.minimum(_pauses(spans)[first:last] / _PAUSE, 1.0) * _WORTH
    return int(first + np.argmin(level[first:last] + haste - pauses)) * FRAME


def _pauses(spans: list[Span]) -> NDArray[np.float64]:
    """For each frame the length of the pause that it is in, in seconds, silence left out between spans included; 0 in speech."""
    active = np.concatenate([span.active for span in spans])
    clock = np.concatenate([span.start + np.arange(len(span.active)) * FRAME for span in spans])
    lengths = np.zeros(len(active))
    for start, end in _set_runs(~active):
        lengths[start:end] = (clock[end - 1] + FRAME - clock[start]) / RATE
    return lengths


def _divide(spans: list[Span], at: int) -> tuple[list[Span], list[Span]]:
    head: list[Span] = []
    for index, span in enumerate(spans):
        if at < len(span.samples):
            left, right = span.split(at)
            return [*head, *([left] if at else [])], [right, *spans[index + 1 :]]
        head.append(span)
        at -= len(span.samples)
    raise ValueError("the cut is past the end")
