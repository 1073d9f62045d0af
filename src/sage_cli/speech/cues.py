"""Divide segments into readable cues: at most two lines, a few seconds on screen, divided where a reader would pause.

Limits follow subtitle guidelines (42 characters a line, two lines, 5/6 to 7 seconds, some 20 characters a second), e.g. Netflix's Timed
Text Style Guide and the BBC Subtitle Guidelines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from math import inf

from sage_cli.speech.lines import DEFAULT, Layout, columns, fits, grade, pieces
from sage_cli.speech.phrases import ends_sentence, segment_of, shared
from sage_cli.speech.segment import Segment, Word

SHORTEST_S = 5 / 6  # that a cue is on screen

_CLAUSE = re.compile(r"[,;:、，；：\-–—][\"'”’»)]*$")  # noqa: RUF001
_PAUSE = 0.3  # seconds that a reader hears as a pause
_CUE = 0.5  # what another cue costs, in units of a break inside a phrase
_SHORT = 1.5  # seconds; a shorter cue flashes by


def readable(segment: Segment, layout: Layout = DEFAULT) -> Iterator[Segment]:
    """Divide a segment at its words, at as few places as the limits allow and at those where it hurts least.

    A single word that exceeds the limits stays whole, its time cut to ``seconds``. A segment without words is a cue that somebody wrote:
    its time is kept, and shared by length if the text needs several cues and there is time to see them; else there are more lines.
    """
    words = segment.words or _spread(segment, layout.width)
    if not segment.words:
        layout = replace(layout, seconds=inf)
    written = _written(segment.text, words)
    if _fits(words, written, layout):
        yield segment
        return
    borders = _borders(words, written, layout)
    for first, last in pairwise(borders if segment.words else _lasting(words, borders)):
        turn = segment.speaker_turn and last == len(words)
        cue = segment_of(words[first:last], "".join(written[first:last]), segment.language, turn=turn)
        end = min(cue.end, cue.start + layout.seconds)
        yield replace(cue, end=end, words=cue.words if segment.words else (), speaker=segment.speaker)


def present(
    segments: Iterable[Segment], start: float, end: float, layout: Layout = DEFAULT, *, words: bool = True, on_screen: bool = True
) -> Iterator[Segment]:
    """Segments as they are shown: readable, those that reach into ``[start, end)``, with or without their words.

    Args:
        on_screen: if not, cues that somebody wrote stay whole: a part of one would be without its speaker.
    """
    for segment in segments:
        for cue in readable(segment, layout) if on_screen or segment.words else (segment,):
            if cue.start < end and cue.end > start:
                yield cue if words else replace(cue, words=())


def _spread(segment: Segment, width: int) -> tuple[Word, ...]:
    """The words of a cue in its time, shared by length."""
    texts = pieces(segment.text, width) or [""]
    times = shared(segment.start, segment.end, texts)
    return tuple(Word(start, end, text, segment.confidence) for text, (start, end) in zip(texts, times, strict=True))


def _lasting(words: Sequence[Word], borders: Sequence[int]) -> list[int]:
    """The borders between parts that are long enough on screen; the others are parts of the one before, or of the next one."""
    kept = [0]
    for border in borders[1:-1]:
        start, end = words[border].start, words[-1].end
        if min(start - words[kept[-1]].start, end - start) >= SHORTEST_S:
            kept.append(border)
    return [*kept, borders[-1]]


def _written(text: str, words: Sequence[Word]) -> list[str]:
    """The text from each word to the next."""
    starts, at = [], 0
    for word in words:
        starts.append(text.index(word.text, at))
        at = starts[-1] + len(word.text)
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _fits(words: Sequence[Word], written: Sequence[str], layout: Layout) -> bool:
    if words[-1].end - words[0].start > layout.seconds:
        return False
    return fits("".join(written).strip(), layout)


def _borders(words: Sequence[Word], written: Sequence[str], layout: Layout) -> list[int]:
    """Numbers of the words that begin a cue, and the count of words, so that the sum of what each cue costs is least."""
    count = len(words)
    best = [0.0] + [float("inf")] * count
    before = [0] * (count + 1)
    places = [0, *accumulate(map(columns, written))]  # of words in the text: to join them for every pair would take minutes for a long one
    lowest = 0
    for last in range(1, count + 1):
        while lowest < last - 1 and not _fits(words[lowest:last], written[lowest:last], layout):
            lowest += 1
        divided = _CUE + (_cost(words, written, last) if last < count else 0.0)
        for first in range(last - 1, lowest - 1, -1):
            length, seconds = places[last] - places[first], words[last - 1].end - words[first].start
            cost = best[first] + divided + _thinness(length, seconds, layout)
            if cost < best[last]:
                best[last], before[last] = cost, first
    borders = [count]
    while borders[-1]:
        borders.append(before[borders[-1]])
    return borders[::-1]


def _cost(words: Sequence[Word], written: Sequence[str], border: int) -> float:
    """What it costs to divide before a word: nothing at the end of a sentence or of a speaker's turn, little at a comma or a pause, most
    where no line may end.
    """
    last, after = words[border - 1], words[border]
    pause = after.start - last.end
    if ends_sentence(last.text) or written[border - 1].endswith("\n"):
        return 0.0
    clause = _CLAUSE.search(last.text) is not None
    return (0.4 if clause else 1.5 + 0.5 * grade(written[border - 1][-1], after.text[0])) - (0.3 if pause >= _PAUSE else 0.0)


def _thinness(length: int, seconds: float, layout: Layout) -> float:
    """What it costs that a cue holds a word or two, or is gone before it is read.

    Args:
        length: of the text, in columns.
        seconds: on screen.
    """
    return max(0.0, 0.4 - length / (layout.width * layout.lines)) + max(0.0, 1.0 - seconds / _SHORT)
