"""Join segments to the entries of a transcript for a language model, which are fewer and longer than subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sage_cli.speech.cues import readable
from sage_cli.speech.lines import Layout, joined
from sage_cli.speech.segment import Segment

_PAUSE = 3.0  # seconds without speech that begin an entry


@dataclass(frozen=True, slots=True)
class Entry:
    """Consecutive speech: start and end in seconds, to a tenth, and the text."""

    start: float
    end: float
    text: str


def entries(segments: Iterable[Segment], longest: float = 30.0) -> Iterator[Entry]:
    """Join segments to entries of at most ``longest`` seconds; a longer segment is divided at its words first.

    Args:
        longest: 0 makes an entry of each segment.
    """
    if not longest:
        yield from (_entry([segment]) for segment in segments)
        return
    held: list[Segment] = []
    for segment in (piece for whole in segments for piece in readable(whole, Layout(width=1000, lines=1, seconds=longest))):
        if held and (segment.end - held[0].start > longest or segment.start - held[-1].end > _PAUSE):
            yield _entry(held)
            held = []
        held.append(segment)
    if held:
        yield _entry(held)


def _entry(segments: list[Segment]) -> Entry:
    text = joined([" ".join(segment.text.split()) for segment in segments])
    return Entry(round(segments[0].start, 1), round(segments[-1].end, 1), text)
