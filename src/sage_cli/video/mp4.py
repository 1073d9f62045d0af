"""The boxes of MP4, and what FFmpeg's demuxer knows of them and PyAV does not pass on."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

Peek: TypeAlias = Callable[[int, int], bytes]  # bytes of a file from a place on, at most so many

_MOST: Final = 1_000_000  # boxes in one: more are damage
_ENTRY: Final = b""  # a description of samples, whatever the codec
_FIELDS: Final = {b"stsd": 8, _ENTRY: 78}  # bytes before the boxes inside
_APERTURE: Final = (b"mdia", b"minf", b"stbl", b"stsd", _ENTRY, b"clap")


def boxes(peek: Peek, at: int = 0, end: float = math.inf) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a stretch of a file: their kind, where they begin, and how long they are."""
    for _ in range(_MOST):
        head = peek(at, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8 or len(head) < 8 or at + size > end:
            return
        yield head[4:8], at, size
        at += size


def crops(peek: Peek, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """For each video track, how many pixels its clean aperture cuts off on the left, at the top, on the right and at the bottom.

    Args:
        width, height: of its pictures.
    """
    found = []
    for track in _nested(peek, (0, math.inf), b"moov", b"trak"):
        if any(peek(at + 8, 4) == b"vide" for at, _ in _nested(peek, track, b"mdia", b"hdlr")):
            aperture = next((peek(at, 32) for at, _ in _nested(peek, track, *_APERTURE)), b"")
            found.append(_crop(aperture, width, height))
    return found


def _crop(aperture: bytes, width: int, height: int) -> tuple[int, int, int, int]:
    """ISO/IEC 14496-12, 12.1.4: the size of what is shown, and how far its center is from that of the picture, as fractions."""
    numbers = struct.unpack(">8i", aperture) if len(aperture) == 32 else (0,) * 8
    if min(numbers[:4]) <= 0 or min(numbers[5], numbers[7]) <= 0:
        return (0, 0, 0, 0)
    wide, high, right, down = (above / below for above, below in zip(numbers[::2], numbers[1::2], strict=True))
    left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    crop = left, top, width - left - round(wide), height - top - round(high)
    return crop if min(crop) >= 0 else (0, 0, 0, 0)


def _nested(peek: Peek, place: tuple[int, float], *kinds: bytes) -> Iterator[tuple[int, float]]:
    """Where the content of boxes of the last kind begins and ends, which are in boxes of the kinds before it."""
    if not kinds:
        yield place
        return
    for kind, at, size in boxes(peek, *place):
        if kinds[0] in (kind, _ENTRY):
            yield from _nested(peek, (at + 8 + _FIELDS.get(kinds[0], 0), at + size), *kinds[1:])
