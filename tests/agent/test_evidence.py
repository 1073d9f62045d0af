from __future__ import annotations

import pytest

from sage_cli.agent.events import Evidence, Span
from sage_cli.agent.evidence import merged
from sage_cli.tools.base import EvidenceSpan


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 9, "clip analyzed"), (1, 3, "event grounded")], [(1, 3, "event grounded"), (5, 9, "clip analyzed")]),
        ([(5, 9, "clip analyzed"), (5, 9, "clip analyzed")], [(5, 9, "clip analyzed")]),
        ([(8, 12, "clip analyzed"), (5, 9, "clip analyzed"), (12.5, 13, "clip analyzed")], [(5, 13, "clip analyzed")]),
        ([(8, 12, "clip analyzed"), (1, 3, "clip analyzed")], [(1, 3, "clip analyzed"), (8, 12, "clip analyzed")]),
        ([(1, 9, "speech transcribed"), (3, 4, "speech transcribed")], [(1, 9, "speech transcribed")]),
        ([(1, 5, "event grounded"), (3, 9, "clip analyzed")], [(1, 5, "event grounded"), (3, 9, "clip analyzed")]),
        ([(1, 5, "frames extracted"), (1.2, 4.8, "frames analyzed")], [(1.2, 4.8, "frames analyzed")]),
        ([(1, 5, "frames extracted"), (7, 8, "frames analyzed")], [(1, 5, "frames extracted"), (7, 8, "frames analyzed")]),
        ([(7, 8, "frames extracted"), (1, 5, "frames analyzed")], [(1, 5, "frames analyzed"), (7, 8, "frames extracted")]),
    ],
)
def test_each_span_appears_once_in_time_order(spans: list[tuple[float, float, str]], expected: list[tuple[float, float, str]]) -> None:
    given = merged(EvidenceSpan(*item) for item in spans)  # type: ignore[arg-type]
    assert given == tuple(Evidence(Span(start, end), what) for start, end, what in expected)  # type: ignore[arg-type]
