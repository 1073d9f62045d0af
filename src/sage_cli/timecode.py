"""Times: seconds as ``float`` inside, clock times at the edges, parsed, formatted and corrected only here.

Input from people is parsed strictly (:func:`parse`: an invalid time is an error), from models leniently (:func:`repair`: it becomes the
most likely time inside the video).
"""

from __future__ import annotations

import math
import re
from contextlib import suppress

from sage_cli.errors import UsageError

# A time this far past the end, relative to the duration, means the end rather than a wrong unit.
_OVERSHOOT = 1.1

_LONGEST = 1000  # characters of a time

_NUMBER = r"(\d+(?:\.\d*)?)"
_CLOCK = re.compile(rf"(?:(\d+):)?(\d+):{_NUMBER}")
# In prose: with two digits of seconds, as no score or ratio has, and with decimals.
_TOLD = re.compile(r"\b(?:\d{1,4}:\d{1,4}:\d{2}(?:\.\d+|,\d{3})?|\d{1,4}:\d{2}(?:\.\d+)?)\b")
_LOOSE = re.compile(r"\d+(?:[.,]\d+)?(?::\d+(?:[.,]\d+)?){0,3}")
_SPOKEN = re.compile(
    r"(?<!\d)"  # not from within a number: a very long one would be read again from each of its digits
    r"(?:(\d+(?:[.,]\d+)?)\s*h(?:rs?|ours?|oras?|eures?)?(?![a-z]))?(?:[\s,.]|and\b)*"
    r"(?:(\d+(?:[.,]\d+)?)\s*m(?:in[a-z]*)?(?![a-z]))?(?:[\s,.]|and\b)*"
    r"(?:(\d+(?:[.,]\d+)?)\s*s(?:e[cgk][a-z]*)?(?![a-z]))?",
    re.IGNORECASE,
)
_FROM = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:-|\u2013|to|until)\s*$", re.IGNORECASE)  # the start of a range, before its end
_UNITS = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.IGNORECASE)


def parse_within(text: str, duration: float) -> float:
    """Parse a time in media of this duration, in seconds.

    Raises:
        UsageError: it is no time, or past the end.
    """
    if (time := parse(text)) > duration:
        raise UsageError(f"{text} is past the end: the media goes from 00:00:00 to {format_clock(duration)}")
    return time


def parse(text: str) -> float:
    """Parse a time as people write it, to seconds: ``1:02:03.5``, ``02:03``, ``90``, ``90.5s``, ``1h2m3s``, ``5m``.

    Raises:
        UsageError: it has none of these forms.
    """
    if math.isfinite(time := _parsed(text.strip())):
        return time
    raise UsageError(f"{text.strip()!r} is not a time; write HH:MM:SS, MM:SS, seconds, or something like 1h2m3s")


def _parsed(text: str) -> float:
    """Not finite if it is no time, or one beyond floats."""
    if re.fullmatch(rf"{_NUMBER}(?:e-\d+)?", text):  # Python prints 0.00001 as 1e-05
        return float(text)
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(field or 0) for field in match.groups())
        if seconds < 60 and (match[1] is None or minutes < 60):
            return 3600 * hours + 60 * minutes + seconds
    elif text and (match := _UNITS.fullmatch(text)):
        return 3600 * float(match[1] or 0) + 60 * float(match[2] or 0) + float(match[3] or 0)
    return math.nan


def without_clocks(text: str) -> tuple[str, list[float]]:
    """A text with the word ``time`` in place of each clock time, and the times in seconds."""
    times: list[float] = []

    def taken(found: re.Match[str]) -> str:
        if not math.isfinite(time := _parsed(found[0].replace(",", "."))):
            return found[0]
        times.append(time)
        return "time"

    return _TOLD.sub(taken, text), times


def format_clock(seconds: float) -> str:
    """``HH:MM:SS``, rounded down: a clock shows a second only once it has begun."""
    # Half a millisecond forgives 44.9999999, which is 45 after arithmetic on floats.
    whole = int(max(0.0, seconds) + 0.0005)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def format_short(seconds: int) -> str:
    """``M:SS``, from an hour on ``H:MM:SS``."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def format_span(start: float, end: float) -> str:
    """``HH:MM:SS-HH:MM:SS``."""
    return f"{format_clock(start)}-{format_clock(end)}"


def format_clock_ms(seconds: float, decimals: int = 3) -> str:
    """``HH:MM:SS.mmm``, rounded to the millisecond, or to other decimals."""
    whole, rest = divmod(round(max(0.0, seconds) * 10**decimals), 10**decimals)
    return f"{format_clock(whole)}.{rest:0{decimals}d}"


def format_stamp(seconds: float, decimals: int = 3) -> str:
    """The same for file names: ``HH-MM-SS.mmm``."""
    return format_clock_ms(seconds, decimals).replace(":", "-")


def rough(seconds: float) -> str:
    """A duration no more precise than an estimate is: ``40 s``, ``3 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def link_at(link: str, time: float) -> str:
    """A link that opens a video at a time (W3C Media Fragments; video sites take ``t`` as well), in place of one that it has."""
    if link.startswith("file:"):
        return f"{link}#t={time:g}"
    address, _, query = link.partition("#")[0].partition("?")
    fields = [field for field in query.split("&") if field and not field.startswith("t=")]
    return f"{address}?{'&'.join([*fields, f't={int(time)}'])}#t={time:g}"


def repair(time: str | float, duration: float, *, fix_units: bool = True) -> float:
    """The time inside ``[0, duration]`` that a model most likely meant. A time past the end is the end.

    A third field above 59 is milliseconds: ``00:10:875`` is 10.875 s.

    Args:
        fix_units: read an ``HH:MM:SS`` past 110% of the duration as if its first two fields were swapped, or as an ``MM:SS`` with two zeros
            too many (``01:10:00`` in a video of five minutes is 70 s), if that fits; the larger of the two. SAGE's models were trained with
            this rule and write such times. (An ``MM:SS`` has only larger readings.)

    Raises:
        ValueError: there is no number in it to read a time from.
    """
    fields = _fields(time)
    if fix_units and len(fields) == 3:
        first, second, third = fields
        readings = [3600 * first + 60 * second + third, 3600 * second + 60 * first + third, 60 * first + second]
    else:
        readings = [_clock(fields)]
    if readings[0] <= max(duration * _OVERSHOOT, math.ceil(duration)):  # the last second of a clock ends after the video
        return min(max(0.0, readings[0]), duration)
    return max((reading for reading in readings if reading <= duration), default=duration)


def repair_window(
    start: str | float, end: str | float, duration: float, shortest: float = 0.0, *, fix_units: bool = True
) -> tuple[float, float, list[str]]:
    """The time span ``(start, end, notes)`` that a model most likely meant, in seconds.

    Both ends are corrected and ordered. A window shorter than ``shortest`` is widened on both sides; an empty one to at least a second.
    Notes describe each change in a line, for the user and the model.

    Args:
        fix_units: see :func:`repair`.

    Raises:
        ValueError: an end is not a time.
    """
    notes = []
    first, last = repair(start, duration, fix_units=fix_units), repair(end, duration, fix_units=fix_units)
    for given, meant in ((start, first), (end, last)):
        if not math.isclose(_clock(_fields(given)), meant, abs_tol=1.0):
            notes.append(f"{given} is outside the video ({format_clock(duration)}); taken as {format_clock(meant)}")
    if last < first:
        first, last = last, first
        notes.append("the start was after the end; swapped")
    shortest = min(shortest, duration)
    if last - first < shortest or first == last:
        # From the middle to both sides, or back from the end; a window without length begins where it was asked for.
        length = min(max(shortest, 1.0), duration)
        middle = (first + last) / 2 if shortest else first + length / 2
        first = min(max(0.0, middle - length / 2), duration - length)
        last = first + length
        notes.append(f"the window was too short; widened to {format_span(first, last)}")
    return first, last, notes


def _fields(time: str | float) -> list[float]:
    """One to three clock fields, most significant first. Fields may overflow (``90:00``), stray words and brackets are ignored."""
    with suppress(OverflowError):  # an int beyond floats
        fields = [float(time)] if isinstance(time, (int, float)) else _written(time) if len(time) <= _LONGEST else []
        if fields and math.isfinite(_clock(fields)):
            return fields
    raise ValueError(f"{str(time)[:99]!r} is not a time; write HH:MM:SS")


def _written(time: str) -> list[float]:
    spoken = next((match for match in _SPOKEN.finditer(time) if any(match.groups())), None)
    if spoken and not re.search(r"\d:\d", time):
        fields = [*spoken.groups()]
        if begin := _FROM.search(time[: spoken.start()]):  # "10 to 20 s" begins at 10 s
            unit = next(number for number, field in enumerate(fields) if field)
            fields = [begin[1] if number == unit else None for number in range(3)]
        return [_clock([float((field or "0").replace(",", ".")) for field in fields])]
    if match := _LOOSE.search(time):
        clock = [float(field.replace(",", ".")) for field in match[0].split(":")]
        # HH:MM:SS:mmm, and MM:SS:mmm, whose last field cannot be seconds.
        if len(clock) == 4 or (len(clock) == 3 and clock[2] >= 60):
            *clock, millis = clock
            clock[-1] += millis / 1000
        return clock
    return []


def _clock(fields: list[float]) -> float:
    seconds = 0.0
    for field in fields:
        seconds = 60 * seconds + field
    return seconds
