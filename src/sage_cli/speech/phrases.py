"""Group words into segments, at the ends of sentences and at pauses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

from sage_cli.speech.segment import Segment, Word

_PAUSE = 0.9  # seconds without speech that part two segments whatever the text
_PHRASE = 4.0  # seconds from which a timestamp of the model parts two segments inside a sentence
_SENTENCE = 24  # characters from which the end of a sentence parts two segments without a timestamp
_END_OF_SENTENCE = re.compile(r"(?:[.?!…][\"'”’»)\]]*|[。？！])$")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Placed:
    """A word on the clock of the stream, its text with any leading space, and the marks that the model wrote around it."""

    word: Word
    written: str
    stamped: bool
    turn: bool


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
