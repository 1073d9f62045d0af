from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest

from sage_cli.video import Sampling, fit_size, uniform_times
from sage_cli.video.sampling import keyframes_near


@pytest.mark.parametrize(
    ("duration", "budget", "count"),
    [
        (600, 128, 128),
        (64, 128, 128),
        (63, 128, 126),
        (10, 128, 20),
        (1.5, 128, 2),
        (0.04, 128, 2),
        (600, 9, 8),
        (600, 2, 2),
        (10.5, 128, 20),
    ],
)
def test_two_a_second_up_to_the_budget_in_pairs(duration: float, budget: int, count: int) -> None:
    times = uniform_times(duration, budget)
    assert len(times) == count
    assert (times[0], times[-1]) == (0, duration)
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) - min(gaps) < 1e-9


def test_a_stretch_is_sampled_within_itself_and_the_video() -> None:
    assert uniform_times(100, 128, start=10, end=12) == pytest.approx([10, 10 + 2 / 3, 10 + 4 / 3, 12])
    assert uniform_times(100, 4, start=90, end=500)[-1] == 100
    assert uniform_times(100, 4, start=-5, end=9)[0] == 0
    assert uniform_times(100, 4, start=150) == [100, 100]
    assert uniform_times(100, 128, fps=1, start=0, end=8) == pytest.approx([index * 8 / 7 for index in range(8)])


def test_a_budget_of_one_takes_the_middle_and_less_is_refused() -> None:
    assert uniform_times(10, 1) == [5]
    with pytest.raises(ValueError, match="cannot sample 0 frames"):
        uniform_times(10, 0)


@pytest.mark.parametrize(
    ("size", "bounds", "multiple", "fitted"),
    [
        ((1280, 720), (0, 105369), 32, (416, 224)),
        ((1920, 1080), (128 * 28 * 28, 192 * 28 * 28), 28, (504, 280)),
        ((720, 1280), (0, 105369), 32, (224, 416)),
        ((320, 240), (128 * 28 * 28, 192 * 28 * 28), 32, (384, 288)),
        ((160, 120), (0, 10**6), 32, (160, 128)),
        ((100, 80), (0, 10**6), 32, (96, 64)),  # 80 / 32 = 2.5 rounds to even, as Python's round does in the original
        ((16, 16), (65536, 150000), 32, (256, 256)),
        ((448, 280), (128 * 28 * 28, 192 * 28 * 28), 28, (448, 280)),
        ((1000, 10), (0, 10**6), 32, (992, 32)),
        ((20_000, 10), (0, 105369), 32, (3264, 32)),
    ],
)
def test_sizes_are_those_of_qwens_smart_resize(
    size: tuple[int, int], bounds: tuple[int, int], multiple: int, fitted: tuple[int, int]
) -> None:
    assert fit_size(*size, min_pixels=bounds[0], max_pixels=bounds[1], multiple=multiple) == fitted


def test_bounds_hold_for_every_shape() -> None:
    for width in range(1, 4000, 173):
        for height in range(1, 4000, 211):
            wide, high = fit_size(width, height, min_pixels=128 * 28 * 28, max_pixels=192 * 28 * 28, multiple=32)
            assert wide % 32 == high % 32 == 0
            assert min(wide, high) >= 32
            assert wide * high <= 192 * 28 * 28
            if 1 / 8 < width / height < 8:
                assert wide * high >= 128 * 28 * 28 * 0.8
                assert abs(math.log(wide / high) - math.log(width / height)) < 0.35


def near(keyframes: list[float], times: list[float], sampling: Sampling) -> list[int]:
    return keyframes_near([Fraction(time) for time in keyframes], [Fraction(time) for time in times], sampling)


def test_the_nearest_keyframe_of_each_time_once() -> None:
    every_two = [2.0 * number for number in range(10)]
    assert near(every_two, [0, 3.5, 4.5, 18], "keyframe") == [0, 2, 9]
    assert near(every_two, [18, 0], "keyframe") == [9, 0]
    assert near(every_two, [0, 3.5], "exact") == []
    assert near(every_two, [], "keyframe") == []


def test_keyframes_outside_of_the_stretch_do_not_count() -> None:
    assert near([0, 10, 20, 30], [11, 14, 29], "keyframe") == [2]
    assert near([0, 10, 20, 30], [11, 14, 19], "keyframe") == []


def test_keyframes_serve_automatically_where_samples_hardly_move() -> None:
    every_two = [2.0 * number for number in range(10)]
    assert near(every_two, [0, 5, 9, 14], "auto") == [0, 2, 4, 7]
    assert near(every_two, [14, 9, 5, 0], "auto") == [7, 4, 2, 0]
    assert near(every_two, [4], "auto") == [2]
    assert near(every_two, [0, 3, 6, 9], "auto") == []
    assert near(every_two, [0, 2, 3, 13], "auto") == []  # the shortest step counts
