from __future__ import annotations

import math

import pytest

from sage_cli.errors import UsageError
from sage_cli.timecode import (
    format_clock,
    format_clock_ms,
    format_stamp,
    link_at,
    parse,
    parse_within,
    repair,
    repair_window,
    rough,
    without_clocks,
)

# More than a float holds; the last ones more digits than Python reads as a whole number.
HUGE = [form.format("9" * digits) for digits in (400, 5000) for form in ("{}", "{}:00", "{}:00:00", "{}h", "1h{}s")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90.5", 90.5),
        ("90s", 90),
        (" 1.25s ", 1.25),
        ("00:45", 45),
        ("2:03", 123),
        ("90:00", 5400),
        ("1:02:03", 3723),
        ("01:02:03.5", 3723.5),
        ("1h2m3s", 3723),
        ("1H", 3600),
        ("5m", 300),
        ("1.5m", 90),
        ("1h30s", 3630),
        ("1e-05", 0.00001),
        ("1.5e-7", 0.00000015),
    ],
)
def test_people_write_times_in_many_ways(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "soon", "-5", "1:60", "1:60:00", "1:2:3:4", ":30", "1h30", "3s2m", "nan", "inf", "1e3", "1:2.5:3", *HUGE]
)
def test_what_is_not_a_time_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time; write HH:MM:SS") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_clock_times_are_found_in_prose() -> None:
    told = "From 1:02 to 00:01:10.5, or 1:02:03,250; at 3:5, 16:75 and 1:05pm. At 1:30,200 people."
    assert without_clocks(told) == ("From time to time, or time; at 3:5, 16:75 and 1:05pm. At time,200 people.", [62, 70.5, 3723.25, 90])
    assert without_clocks("9" * 5000 + ":00") == ("9" * 5000 + ":00", [])


def test_times_past_the_end_are_refused() -> None:
    assert parse_within("00:10", 10) == 10
    with pytest.raises(UsageError, match="past the end: the media goes from 00:00:00 to 00:00:10"):
        parse_within("11", 10)


@pytest.mark.parametrize(
    ("seconds", "clock", "precise"),
    [
        (0, "00:00:00", "00:00:00.000"),
        (59.9, "00:00:59", "00:00:59.900"),
        (44.9999999, "00:00:45", "00:00:45.000"),
        (59.9996, "00:01:00", "00:01:00.000"),
        (3723.4567, "01:02:03", "01:02:03.457"),
        (360000, "100:00:00", "100:00:00.000"),
        (-90.5, "00:00:00", "00:00:00.000"),
    ],
)
def test_clocks(seconds: float, clock: str, precise: str) -> None:
    assert format_clock(seconds) == clock
    assert format_clock_ms(seconds) == precise
    assert parse(precise) == pytest.approx(max(0, seconds), abs=0.0006)


def test_file_names_have_as_many_decimals_as_are_asked_for() -> None:
    assert (format_stamp(3723.45678), format_stamp(3723.45678, 5), format_stamp(0.99996, 4)) == (
        "01-02-03.457",
        "01-02-03.45678",
        "00-00-01.0000",
    )


@pytest.mark.parametrize(
    ("link", "opened"),
    [
        ("file:///a.mp4", "file:///a.mp4#t=90.5"),
        ("https://a.example/v", "https://a.example/v?t=90#t=90.5"),
        ("https://a.example/v?id=1", "https://a.example/v?id=1&t=90#t=90.5"),
        ("https://a.example/v?t=7s&id=1#about", "https://a.example/v?id=1&t=90#t=90.5"),
        ("https://a.example/v#t=7", "https://a.example/v?t=90#t=90.5"),
    ],
)
def test_links_open_at_a_time(link: str, opened: str) -> None:
    assert link_at(link, 90.5) == opened


@pytest.mark.parametrize(("seconds", "text"), [(1, "5 s"), (42, "40 s"), (95, "2 min"), (7000, "1.9 h")])
def test_estimates_are_rough(seconds: float, text: str) -> None:
    assert rough(seconds) == text


@pytest.mark.parametrize(
    ("written", "duration", "meant"),
    [
        # At its word.
        ("00:45", 300, 45),
        ("00:00:45", 300, 45),
        ("45", 300, 45),
        (45, 300, 45),
        ("02:30:00", 9500, 9000),
        ("00:04:10.5", 300, 250.5),
        # Within 110%: the end.
        ("05:20", 300, 300),
        ("00:05:30", 300, 300),
        (329.0, 300, 300),
        # Past that, HH:MM:SS is read otherwise: the largest reading that fits.
        ("01:10:00", 300, 70),
        ("01:10:00", 4000, 4000),
        ("02:01:30", 3800, 3600 + 2 * 60 + 30),  # MM:HH:SS
        ("05:00:00", 300, 300),
        # MM:SS has no smaller reading; neither have seconds.
        ("10:30", 300, 300),
        ("1000", 300, 300),
        ("10:10:10", 60, 60),
        # Noise.
        ("[00:45]", 300, 45),
        ("about 00:45 or so", 300, 45),
        ("at 1m30s", 300, 90),
        ("from 10 to 20 seconds", 300, 10),
        ("1-2 min", 300, 60),
        ("1 hora 5 minutos", 4000, 3900),
        ("1 min. 5 sec.", 300, 65),
        ("about 5 minutes", 3000, 300),
        ("[2m30s]", 300, 150),
        ("2.5 minutes", 300, 150),
        ("around 1 hour, 2 min and 3,5 sec", 9000, 3723.5),
        ("02:30 min", 300, 150),
        ("45, where 3 shows begin", 300, 45),
        (-3.0, 300, 0),
    ],
)
def test_models_times_are_repaired(written: str | float, duration: float, meant: float) -> None:
    assert repair(written, duration) == pytest.approx(meant)


@pytest.mark.parametrize(
    ("written", "duration", "meant"),
    [
        ("00:05:00", 180, 180),
        ("01:10:00", 300, 300),
        ("02:01:30", 3800, 3800),
        ("00:09:00", 180, 180),
        ("00:01:30", 180, 90),
        ("05:20", 300, 300),
        ("00:10:875", 300, 10.875),
        ("00:10:60", 300, 10.06),
    ],
)
def test_without_other_units_a_time_past_the_end_is_the_end(written: str, duration: float, meant: float) -> None:
    assert repair(written, duration, fix_units=False) == pytest.approx(meant)


def test_a_window_past_the_end_keeps_its_start_without_other_units() -> None:
    assert repair_window("00:01:00", "00:09:00", 180, 10, fix_units=False)[:2] == (60, 180)
    assert repair_window("00:00:00", "00:05:00", 180, 10, fix_units=False)[:2] == (0, 180)
    assert repair_window("00:05:00", "00:06:00", 180, 10, fix_units=False)[:2] == (170, 180)


@pytest.mark.parametrize("written", ["", "null", "start", float("nan"), float("inf"), pytest.param(10**400, id="int"), *HUGE])
def test_what_holds_no_time_cannot_be_repaired(written: str | float) -> None:
    with pytest.raises(ValueError, match="is not a time") as caught:
        repair(written, 300)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("start", "end", "shortest", "window", "notes"),
    [
        ("00:10", "00:20", 0, (10, 20), []),
        ("00:10", "00:20", 10, (10, 20), []),
        ("00:10", "300.4", 0, (10, 300), []),
        ("00:00:10", "00:05:01", 0, (10, 300), []),  # the second of the end, where a clock rounds up
        ("00:20", "00:10", 0, (10, 20), ["swapped"]),
        ("00:00:00", "00:05:00", 10, (0, 300), []),
        ("00:10", "99:00", 0, (10, 300), ["99:00 is outside the video"]),
        ("00:04:50", "00:05:10", 0, (290, 300), ["00:05:10 is outside the video"]),
        ("01:10:00", "01:20:00", 0, (70, 80), ["taken as 00:01:10", "taken as 00:01:20"]),
        ("00:30", "00:30", 0, (30, 31), ["widened to 00:00:30-00:00:31"]),
        ("05:00", "05:00", 0, (299, 300), ["widened"]),
        ("00:40", "00:40", 10, (35, 45), ["widened to 00:00:35-00:00:45"]),
        ("00:02", "00:04", 10, (0, 10), ["widened"]),
        ("04:58", "05:00", 10, (290, 300), ["widened"]),
        (280, 10, 0, (10, 280), ["swapped"]),
    ],
)
def test_windows(start: str | float, end: str | float, shortest: float, window: tuple[float, float], notes: list[str]) -> None:
    first, last, said = repair_window(start, end, 300, shortest)
    assert (first, last) == window
    assert len(said) == len(notes)
    assert all(expected in note for expected, note in zip(notes, said, strict=True))


@pytest.mark.parametrize("duration", [0.4, 4.5, 5.2, 9.1])
def test_the_last_second_of_a_clock_is_the_end_of_a_short_video(duration: float) -> None:
    """Regression: 00:00:05 in a video of 4.5 seconds, past 110 % of it, was read as MM:SS and two zeros: 0."""
    for shortest in (0.0, 10.0):
        whole = repair_window("00:00:00", f"00:00:{math.ceil(duration):02}", duration, shortest)
        assert whole == (0.0, duration, [])


@pytest.mark.parametrize("shortest", [0.0, 10.0])
def test_a_window_of_a_very_short_video_stays_inside_it(shortest: float) -> None:
    assert repair_window("0", "0", 0.4, shortest)[:2] == (0.0, 0.4)


# As published traces of trained models have them, with what each means in a video of 43 minutes.
@pytest.mark.parametrize(
    ("start", "end", "window"),
    [
        ("00:10:875", "02:14:875", (10.875, 134.875)),
        ("00:26:959", "00:28:000", (26.959, 1680.0)),
        ("00:00:26:959", "00:00:28:000", (26.959, 28.0)),
        ("20", "40", (20, 40)),
        ("0.0:54.0", "1.0:10.0", (54, 70)),
        ("75:30", "90:00", (2580, 2580)),
        ("10:00", "75:30", (600, 2580)),
        ("12.5", "20.25", (12.5, 20.25)),
        ("00:00:12,500", "00:00:20,250", (12.5, 20.25)),
        ("02:00", "01:00", (60, 120)),
        ("00:45:00", "00:50:00", (50, 2580)),
        ("1m30s", "2m", (90, 120)),
        ("45 s", "1 h", (45, 2580)),
    ],
)
def test_times_that_trained_models_write(start: str, end: str, window: tuple[float, float]) -> None:
    first, last, _ = repair_window(start, end, 2580)
    assert (first, last) == pytest.approx(window if window[0] < window[1] else (window[0] - 1, window[1]))
