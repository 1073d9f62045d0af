"""The evidence for an answer: the time spans that were examined, merged; of transcripts those in which the answer is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from sage_cli.agent.events import Evidence, Span
from sage_cli.tools.base import EvidenceSpan

# Spans of the same kind that are this close together, in seconds, are merged.
_GAP: Final = 1.0

# An answer that more of a transcript has to do with is about all of it.
_FEW: Final = 3
_MOST: Final = 8
_KNOWN: Final = 0.3  # of the words of question and answer: fewer are a coincidence, as in another language


def rested_on(spans: Sequence[EvidenceSpan], question: str, answer: str) -> tuple[Evidence, ...]:
    """The spans, merged, with what an answer rests on in place of whole transcripts: what was said with the words of question and answer,
    if that is little. If it is not known, the transcripts stay."""
    said = sorted({(entry, span.what): None for span in spans for entry in span.said}, key=lambda one: one[0].start)
    if not said:
        return merged(spans)
    from sage_cli.speech.passages import known, ranked

    texts, words = [entry.text for entry, _ in said], f"{question}\n{answer}"
    found = ranked(texts, words) if known(texts, words) >= _KNOWN else []
    if not found or len(found) > min(_MOST, max(_FEW, len(said) // 2)):
        return merged(spans)
    chosen = [said[number] for number in sorted(found)]
    rest = [span for span in spans if not span.said]

    def quoted(one: Evidence) -> Evidence:
        inside = (entry.text for entry, what in chosen if what == one.what and one.span.start <= entry.start <= one.span.end)
        return replace(one, said=" ".join(inside))

    return tuple(map(quoted, merged([*rest, *(EvidenceSpan(entry.start, entry.end, what) for entry, what in chosen)])))


def merged(spans: Iterable[EvidenceSpan]) -> tuple[Evidence, ...]:
    """Merge spans that overlap or touch, in time order. Frames that were extracted and then analyzed count as analyzed only."""
    joined: list[EvidenceSpan] = []
    for item in sorted(spans, key=lambda item: (item.what, item.start)):
        last = joined[-1] if joined else None
        if last and last.what == item.what and item.start <= last.end + _GAP:
            joined[-1] = EvidenceSpan(last.start, max(last.end, item.end), last.what)
        else:
            joined.append(item)
    analyzed = [item for item in joined if item.what == "frames analyzed"]
    kept = [item for item in joined if item.what != "frames extracted" or not any(_overlap(item, other) for other in analyzed)]
    return tuple(Evidence(Span(item.start, item.end), item.what) for item in sorted(kept, key=lambda item: (item.start, item.end)))


def _overlap(one: EvidenceSpan, other: EvidenceSpan) -> bool:
    return one.start <= other.end and other.start <= one.end
