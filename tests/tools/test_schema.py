from __future__ import annotations

import re

import pytest

from sage_cli.timecode import format_clock
from sage_cli.tools.schema import clock


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 300),
        (45, 65),
        (0, 59),
        (0, 3600),
        (3500, 7321),
        (4000, 9000),
        (0, 0),
        (59, 60),
        (3599, 3600),
        (3600, 3700),
        (119, 6061),
        (0, 86399),
    ],
)
def test_clock_allows_exactly_the_seconds_of_the_window(start: int, end: int) -> None:
    pattern = re.compile(clock(start, end)["pattern"])
    for second in range(max(0, start - 700), min(end + 700, 86400)):
        text = format_clock(second)
        inside = start <= second <= end
        assert bool(pattern.match(text)) == inside, text
        if second < 3600:
            assert bool(pattern.match(text[3:])) == inside, text[3:]


@pytest.mark.parametrize(("first", "last"), [(0, 120), (0, 99), (98, 100), (99, 1000), (15, 16), (205, 999), (0, 1234), (120, 120)])
def test_clock_allows_hours_of_any_number_of_digits(first: int, last: int) -> None:
    """With the seconds around each edge, where the other fields are bounded, too."""
    start, end = 3600 * first + 754, 3600 * last + 3007
    pattern = re.compile(clock(start, end)["pattern"])
    for hour in range(1300):
        for second in (0, 753, 754, 755, 1800, 3006, 3007, 3008, 3599):
            time = 3600 * hour + second
            assert bool(pattern.match(format_clock(time))) == (start <= time <= end), format_clock(time)
    assert not any(pattern.match(text) for text in ("016:00:00", "1:00:00", "16:60:00", "16:00:60"))


def test_clock_rounds_the_end_to_the_second_that_is_closest() -> None:
    assert re.match(clock(0, 4.6)["pattern"], "00:05")
    assert not re.match(clock(0, 4.4)["pattern"], "00:05")
    assert re.match(clock(0.2, 0.3)["pattern"], "00:00:00")


@pytest.mark.parametrize("text", ["45", "0:45", "00:60", "00:45 ", "000:45", "00:00:45:00", "00:45.5"])
def test_clock_refuses_other_notations(text: str) -> None:
    assert not re.match(clock(0, 300)["pattern"], text)
