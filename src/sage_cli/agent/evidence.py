"""The evidence for an answer: the time spans that were examined, merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sage_cli.agent.events import Evidence, Span
from sage_cli.tools.base import EvidenceSpan

# Spans of the same kind that are this close together, in seconds, are merged.
_GAP: Final = 1.0


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
