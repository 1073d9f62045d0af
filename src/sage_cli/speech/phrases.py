"""Group words into segments, at the ends of sentences and at pauses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import exp, log

from sage_cli.speech.segment import Segment, Word

_PAUSE = 0.9  # seconds without speech that part two segments whatever the text
_PHRASE = 4.0  # seconds from which a timestamp of the model parts two segments inside a sentence
_SILENCE = 3.0  # seconds in which no sentence goes on
_STRAY = 2  # words that may have strayed over such a silence
_SENTENCE = 24  # characters from which the end of a sentence parts two segments without a timestamp
_END_OF_SENTENCE = re.compile(r"(?:[.?!…][\"'”’»)\]]*|[。？！])$")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Placed:
    """A word on the clock of the stream, its text with any leading space, and the marks that the model wrote around it."""

    word: Word
    written: str
    stamped: bool
    turn: bool


def together(words: Sequence[Placed]) -> list[Placed]:
    """The words, with those that strayed over a long silence moved back to the rest of their sentence.

    Attention may put the first word or two of a sentence on a sound long before it that the detector took for speech, or the last ones on a
    sound after it. They share the time of the word next to them.
    """
    kept = list(words)
    inner = [n for n in range(1, len(kept)) if _apart(kept[n - 1], kept[n])]
    for first, after in pairwise([0, *inner, len(kept)]):
        for n in range(first + 1, after):
            if kept[n].word.start - kept[n - 1].word.end < _SILENCE:
                continue
            if n - first <= _STRAY and n - first < after - n:
                kept[first : n + 1] = _within(kept[n], kept[first : n + 1])
            elif after - n <= _STRAY and after - n < n - first:
                kept[n - 1 : after] = _within(kept[n - 1], kept[n - 1 : after])
    return kept


def _apart(before: Placed, placed: Placed) -> bool:
    """Whether a word begins another sentence than the one before it. A timestamp of the model can stand inside a sentence."""
    return ends_sentence(before.word.text) or (placed.stamped and placed.word.start - before.word.end >= _PAUSE)


def _within(place: Placed, words: Sequence[Placed]) -> list[Placed]:
    """The words in the time of one of them, shared by length."""
    times = shared(place.word.start, place.word.end, [placed.word.text for placed in words])
    return [replace(p, word=replace(p.word, start=a, end=b)) for p, (a, b) in zip(words, times, strict=True)]


def shared(start: float, end: float, texts: Sequence[str]) -> list[tuple[float, float]]:
    """Start and end of each of some texts, at least one, that share a time by their lengths."""
    lengths = [0, *accumulate(len(text) + 1 for text in texts)]
    return list(pairwise(start + (end - start) * length / lengths[-1] for length in lengths))


def segments(words: Sequence[Placed], language: str) -> Iterator[Segment]:
    """Group words into segments."""
    held: list[Placed] = []
    for number, placed in enumerate(words):
        held.append(placed)
        if number == len(words) - 1 or _parts(held, words[number + 1]):
            text = "".join(p.written for p in held)
            yield segment_of([p.word for p in held], text, language, turn=placed.turn)
            held = []


def segment_of(words: Sequence[Word], text: str, language: str, *, turn: bool = False) -> Segment:
    """One segment of these words, at least one."""
    weights = [max(1, len(word.text)) for word in words]
    logs = sum(log(max(word.confidence, 1e-9)) * weight for word, weight in zip(words, weights, strict=True))
    confidence = exp(logs / sum(weights))
    return Segment(words[0].start, words[-1].end, text.strip(), confidence, tuple(words), speaker_turn=turn, language=language)


def ends_sentence(text: str) -> bool:
    return _END_OF_SENTENCE.search(text) is not None


def _parts(held: list[Placed], after: Placed) -> bool:
    last, first = held[-1].word, held[0].word
    if held[-1].turn or after.word.start - last.end >= _PAUSE:
        return True
    if ends_sentence(last.text):
        return after.stamped or sum(len(p.word.text) + 1 for p in held) >= _SENTENCE
    return after.stamped and last.end - first.start >= _PHRASE
