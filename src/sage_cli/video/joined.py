"""Files joined end to end that FFmpeg reads as one. In fragmented MP4 that is right where the second goes on as the first one ends."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from typing import Final

from sage_cli.video.mp4 import Peek, boxes

_MOST: Final = 1_000_000  # frames
_HEADER: Final = 1 << 20  # bytes of a box that are looked at
_LATEST: Final = 8  # fragments: each may hold one stream
_TRACK: Final = re.compile(rb"tfhd.(...)(....)|tfdt(?:\x01...(.{8})|\0...(....))", re.DOTALL)
_IVF: Final = b"DKIF"
_FRAME: Final = 12  # bytes before a frame of IVF
_ABSOLUTE: Final = 1  # flag: samples are given by their places in the file, which is now another one


def misread_from(peek: Peek) -> float:
    """Where a joined file begins that FFmpeg misreads; infinite if there is none."""
    return _second_ivf(peek) if peek(0, len(_IVF)) == _IVF else _misread_fragments(peek)


def _second_ivf(peek: Peek) -> float:
    """FFmpeg takes its header for that of a frame, which would be longer than the file."""
    at = int.from_bytes(peek(6, 2), "little")
    for _ in range(_MOST):
        head = peek(at, _FRAME)
        size = int.from_bytes(head[:4], "little")
        if head.startswith(_IVF) or not size:
            return at if size else math.inf
        at += _FRAME + size
    return math.inf


def _misread_fragments(peek: Peek) -> float:
    """FFmpeg would decode with the first file's parameters, take samples from wrong places, and drop those whose times are not later."""
    described: list[bytes] = []
    second, latest = None, deque[bytes](maxlen=_LATEST)
    for kind, at, size in boxes(peek) if peek(4, 4) == b"ftyp" else ():
        if kind == b"ftyp" and latest:
            second = at
        elif kind in (b"moov", b"moof"):
            box = peek(at, min(size, _HEADER))
            if kind == b"moov":
                if second is not None and _descriptions(box) != described:
                    return second
                described = _descriptions(box)
                continue
            if second is not None and not _goes_on(box, latest):
                return second
            second = None
            latest.append(box)
    return math.inf


def _descriptions(header: bytes) -> list[bytes]:
    """How the samples of each track are encoded."""
    starts = [match.start() - 4 for match in re.finditer(rb"stsd", header)]
    return [header[at : at + int.from_bytes(header[at : at + 4], "big")] for at in starts if at >= 0]


def _goes_on(fragment: bytes, earlier: deque[bytes]) -> bool:
    """Whether samples lie beside their fragment, and are later than those of earlier fragments."""
    if any(match[1] and int.from_bytes(match[1], "big") & _ABSOLUTE for match in _TRACK.finditer(fragment)):
        return False
    before = {track: time for box in earlier for track, time in _times(box)}
    return all(time > before.get(track, -1) for track, time in _times(fragment))


def _times(fragment: bytes) -> Iterator[tuple[bytes, int]]:
    """The tracks in a fragment, and when each begins in it, in their own ticks; nothing where the fragment does not say."""
    track = b""
    for match in _TRACK.finditer(fragment):
        if match[2]:
            track = match[2]
        else:
            yield track, int.from_bytes(match[3] or match[4], "big")
