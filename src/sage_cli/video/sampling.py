"""Which moments of a video a model looks at, and how large it sees them: as the models were trained."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np

Sampling = Literal["exact", "keyframe", "auto"]

# "auto" takes keyframes when none is further from its time than this part of the way to the next sample.
_NEGLIGIBLE = Fraction(1, 4)


def uniform_times(duration: float, budget: int, *, fps: float = 2.0, start: float = 0.0, end: float | None = None) -> list[float]:
    """Times in seconds, ascending, at which to sample a video or a stretch of it.

    ``fps`` frames a second, capped to ``budget`` of them, spread evenly over ``[start, end]`` with both ends included: the reference takes
    the first frame, the last frame and even steps between (``linspace`` over frame numbers), and the frame on screen at the end of
    a video is its last one. The count is even where the budget allows, since frames are merged in pairs, and at least one pair.

    Args:
        duration: of the whole video, in seconds.
        budget: most frames to take.
        start, end: the stretch to sample; clamped to the video, ``end=None`` for its end.

    Raises:
        ValueError: the budget is below one frame.
    """
    if budget < 1:
        raise ValueError(f"cannot sample {budget} frames")
    start = min(max(0.0, start), duration)
    end = duration if end is None else min(end, duration)
    if budget == 1:
        return [(start + end) / 2]
    count = min(round((end - start) * fps), budget)
    return [float(time) for time in np.linspace(start, end, max(2, count - count % 2))]


def keyframes_near(keyframes: Sequence[Fraction], times: Sequence[Fraction], sampling: Sampling) -> list[int]:
    """Numbers of the keyframes to take instead of the frames on screen at these times: each time's nearest, every one once, in order.

    Only keyframes of the stretch from the first to the last of the times count. None at all when there are none, when ``sampling`` is
    ``"exact"``, and with ``"auto"`` unless that hardly moves the samples: none by more than a quarter of the shortest step between two.

    Args:
        keyframes: their times, ascending, on the clock of ``times``.
        times: in any order.
    """
    if sampling == "exact" or not times:
        return []
    first, last = bisect.bisect_left(keyframes, min(times)), bisect.bisect_right(keyframes, max(times))
    if first == last:
        return []

    def nearest(time: Fraction) -> int:
        after = bisect.bisect_left(keyframes, time, first, last)
        return min(range(max(first, after - 1), min(last, after + 1)), key=lambda number: abs(keyframes[number] - time))

    found = [nearest(time) for time in times]
    if sampling == "auto":
        step = min((abs(after - before) for before, after in pairwise(times)), default=Fraction(0))
        if max(abs(keyframes[number] - time) for number, time in zip(found, times, strict=True)) > step * _NEGLIGIBLE:
            return []
    return list(dict.fromkeys(found))


def fit_size(width: int, height: int, *, min_pixels: int, max_pixels: int, multiple: int, strict: bool = True) -> tuple[int, int]:
    """``(width, height)`` for a frame: sides multiples of ``multiple``, area within the bounds, aspect kept as closely as that allows.

    The rounding is Qwen-VL's ``smart_resize``: to the nearest multiple when the area is in bounds already, otherwise scaled to the
    bound and rounded inwards. That rule breaks its own bound on long strips, whose short side cannot get below one multiple, and
    where the bounds are narrow; the long side then gives way, so that ``max_pixels`` holds down to a single ``multiple`` squared.

    Args:
        strict: false where small frames may exceed narrow bounds by what the rule rounds up, as they did in training.
    """
    wide, high = (max(multiple, round(side / multiple) * multiple) for side in (width, height))
    if wide * high > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        wide, high = (max(multiple, math.floor(side / scale / multiple) * multiple) for side in (width, height))
    elif wide * high < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        wide, high = (math.ceil(side * scale / multiple) * multiple for side in (width, height))
        if not strict:
            return wide, high
    while wide * high > max_pixels and max(wide, high) > multiple:
        wide, high = (wide - multiple, high) if wide >= high else (wide, high - multiple)
    return wide, high
