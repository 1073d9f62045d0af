"""Timed Text Markup Language, the one format of subtitles that FFmpeg does not read: https://www.w3.org/TR/ttml2/"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Final
from xml.etree.ElementTree import Element, ParseError, fromstring

_ROOT: Final = re.compile(rb"<(?:\w+:)?tt[\s>]")
_HEAD: Final = 4096  # bytes in which it comes
_CLOCK: Final = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?")
_OFFSET: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)")
_BREAK: Final = "\0"  # which no document can hold
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class _Rates:
    """Frames and ticks per second, which times may be counted in."""

    frames: float
    ticks: float

    @classmethod
    def of(cls, root: Element) -> _Rates:
        given = {_local(name): value for name, value in root.attrib.items()}
        over, under = (given.get("frameRateMultiplier") or "1 1").split()
        frames = float(given.get("frameRate", 30)) * float(over) / float(under)
        return cls(frames, float(given.get("tickRate") or (frames if "frameRate" in given else 1)))

    def seconds(self, time: str) -> float:
        """Raises: ValueError: it is no time."""
        if match := _CLOCK.fullmatch(time.strip()):
            hours, minutes, seconds, frames = match.groups()
            return float(hours) * 3600 + float(minutes) * 60 + float(seconds) + float(frames or 0) / self.frames
        if match := _OFFSET.fullmatch(time.strip()):
            count, unit = float(match[1]), match[2]
            return count / self.frames if unit == "f" else count / self.ticks if unit == "t" else count * _SECONDS[unit]
        raise ValueError(f"{time} is no time")


def is_ttml(data: bytes) -> bool:
    """Whether this is the beginning of a document, in UTF-8."""
    return _ROOT.search(data[:_HEAD]) is not None


def ttml_cues(text: str) -> list[tuple[float, float, str]]:
    """Start and end in seconds, and text of its cues.

    Raises:
        ValueError: it is not TTML, or has times of a kind that is not known.
    """
    try:
        root = fromstring(text)
        document = _Document(_Rates.of(root))
        for body in root:
            if _local(body.tag) == "body":
                document.read(body)
    except (ParseError, ZeroDivisionError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return document.cues


class _Document:
    """The cues of a document. Its elements may be many and deep in each other, so each is looked at a few times, however deep it is."""

    def __init__(self, rates: _Rates) -> None:
        self.cues: list[tuple[float, float, str]] = []
        self._rates = rates
        self._timed: set[Element] = set()  # elements around one with a start

    def read(self, body: Element) -> None:
        self._find_timed(body)
        self._walk(body, 0.0, None)

    def _find_timed(self, element: Element) -> bool:
        """Whether an element or one in it has a start."""
        for child in element:
            if self._find_timed(child):
                self._timed.add(element)
        return element in self._timed or "begin" in element.attrib

    def _walk(self, element: Element, base: float, end: float | None) -> None:
        """Add the cues inside an element. Its times count from ``base``, the start of the one around it."""
        seconds = self._rates.seconds
        if element.get("timeContainer") == "seq":
            raise ValueError("times that follow each other")
        start = base + seconds(element.get("begin", "0s"))
        if "end" in element.attrib:
            end = base + seconds(element.attrib["end"])
        elif "dur" in element.attrib:
            end = start + seconds(element.attrib["dur"])
        if _local(element.tag) in ("p", "span") and ("begin" in element.attrib or element not in self._timed):
            if end is None:
                raise ValueError("a cue without an end")
            if not (isfinite(start) and isfinite(end)):
                raise ValueError("times beyond all numbers")
            self.cues.append((start, end, _text(element)))
            return
        for child in element:
            self._walk(child, start, end)


def _text(element: Element) -> str:
    for inner in element.iter():
        if _local(inner.tag) == "br":
            inner.text = _BREAK
    return re.sub(r"\s+", " ", "".join(element.itertext())).replace(_BREAK, "\n").strip()


def _local(name: object) -> str:
    """A name without its namespace; comments have none."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""
