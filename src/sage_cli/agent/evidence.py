"""Evidence for an answer: the time spans that were examined, merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sage_cli.agent.events import Evidence, Span
from sage_cli.tools.base import Looked

# Spans of the same kind that are this close together, in seconds, are merged.
_GAP: Final = 1.0


def evidence(looked: Iterable[Looked]) -> tuple[Evidence, ...]:
    """Merge spans that overlap or touch, in time order. Frames that were extracted and then analyzed count as analyzed only."""
    merged: list[Looked] = []
    for item in sorted(looked, key=lambda item: (item.what, item.start)):
        last = merged[-1] if merged else None
        if last and last.what == item.what and item.start <= last.end + _GAP:
            merged[-1] = Looked(last.start, max(last.end, item.end), last.what)
        else:
            merged.append(item)
    analyzed = [item for item in merged if item.what == "frames analyzed"]
    kept = [item for item in merged if item.what != "frames extracted" or not any(_overlap(item, other) for other in analyzed)]
    return tuple(Evidence(Span(item.start, item.end), item.what) for item in sorted(kept, key=lambda item: (item.start, item.end)))


def _overlap(one: Looked, other: Looked) -> bool:
    return one.start <= other.end and other.start <= one.end
