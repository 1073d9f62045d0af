"""The statistics of the report: Wilson's interval and the exact McNemar test."""

from __future__ import annotations

from fractions import Fraction
from math import comb, sqrt
from statistics import NormalDist


def wilson(right: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, without continuity correction (E. B. Wilson, 1927).

    Unlike the normal approximation it stays within 0 and 1 and is meaningful at the extremes, such as 20 of 20.
    """
    if total == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = right / total
    centre = share + z2 / (2 * total)
    margin = sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total * total)))
    low, high = (centre - margin) / (1 + z2 / total), (centre + margin) / (1 + z2 / total)
    # At the ends the formula is exactly 0 and 1; the arithmetic is not.
    return (0.0 if right == 0 else low), (1.0 if right == total else high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar test: how likely a split of the disagreements at least this uneven is if both runs are equally good.

    Args:
        only_first, only_second: questions that only one of the two runs got right.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    # Integers until the final division: exact for any counts.
    return min(1.0, float(Fraction(2 * sum(comb(total, count) for count in range(fewer + 1)), 2**total)))
