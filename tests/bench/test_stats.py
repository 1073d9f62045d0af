"""Our formulas against scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from sage_cli.bench.stats import mcnemar, wilson


@pytest.mark.parametrize("total", [1, 2, 7, 20, 130, 1744])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_scipys(total: int, confidence: float) -> None:
    for right in sorted({0, 1, total // 3, total // 2, total - 1, total}):
        theirs = binomtest(right, total).proportion_ci(confidence, method="wilson")
        assert wilson(right, total, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_stays_within_bounds() -> None:
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 61), (0, 30), (700, 650)])
def test_mcnemar_is_the_binomial_test_on_the_disagreements(first: int, second: int) -> None:
    theirs = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(theirs, rel=1e-9)
