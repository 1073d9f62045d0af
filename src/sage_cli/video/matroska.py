"""What FFmpeg's demuxer of Matroska knows and PyAV does not pass on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sage_cli.video.source import Source

_HEADER, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TRACKS, _TRACK, _TYPE, _CODEC, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0x86, 0xE0
_CROPS: Final = (0x54CC, 0x54BB, 0x54DD, 0x54AA)  # left, top, right, bottom
_MOST: Final = 1000  # elements in one: more are damage
_ENDLESS: Final = 1 << 63


def crops(source: Source) -> list[tuple[int, int, int, int]]:
    """For each video track, how many pixels are cut off on the left, at the top, on the right and at the bottom; none of other files."""
    found = []
    for fields in _tracks(source, 1):
        shape = dict(_elements(source, *fields[_VIDEO])) if _VIDEO in fields else {}
        left, top, right, bottom = (_number(source, shape[name]) if name in shape else 0 for name in _CROPS)
        found.append((left, top, right, bottom))
    return found


def subtitle_formats(source: Source) -> list[str]:
    """For each subtitle track, Matroska's name of its format, such as ``"S_TEXT/WEBVTT"``; none of other files."""
    places = [fields.get(_CODEC, (0, 0)) for fields in _tracks(source, 17)]
    return [source.peek(begin, end - begin).rstrip(b"\0").decode("ascii", "replace") for begin, end in places]


def _tracks(source: Source, wanted: int) -> Iterator[dict[int, tuple[int, int]]]:
    """The elements of each track of a type."""
    top = dict(_elements(source, 0, source.size, {_SEGMENT}))
    if _HEADER not in top or _SEGMENT not in top:
        return
    for kind, tracks in _elements(source, *top[_SEGMENT], {_CLUSTER}):
        for entry in (place for inner, place in _elements(source, *tracks) if inner == _TRACK) if kind == _TRACKS else ():
            fields = dict(_elements(source, *entry))
            if _TYPE in fields and _number(source, fields[_TYPE]) == wanted:
                yield fields


def is_whole(source: Source) -> bool:
    """Whether a file has the size that its header says, and no zeros at the end of that; more may follow it. Others are not."""
    top = dict(_elements(source, 0, _ENDLESS, {_SEGMENT}))
    end = top[_SEGMENT][1] if _HEADER in top and _SEGMENT in top else _ENDLESS
    return end <= source.size and source.peek(end - 64, 64) != bytes(64)


def _elements(source: Source, at: int, end: int, last: set[int] | frozenset[int] = frozenset()) -> Iterator[tuple[int, tuple[int, int]]]:
    """The elements in a stretch of the file, up to one of the ``last`` ones: what they are, and where their content begins and ends."""
    for _ in range(_MOST):
        head = source.peek(at, 12)
        if at >= end or not head or not head[0]:
            return
        name = 9 - head[0].bit_length()
        if len(head) <= name or not head[name]:
            return
        size = 9 - head[name].bit_length()
        length = int.from_bytes(head[name : name + size], "big") - (1 << 7 * size)
        begin = at + name + size
        at = end if length == (1 << 7 * size) - 1 else min(end, begin + length)  # all bits set: of unknown length
        kind = int.from_bytes(head[:name], "big")
        yield kind, (begin, at)
        if kind in last:
            return


def _number(source: Source, place: tuple[int, int]) -> int:
    return int.from_bytes(source.peek(place[0], min(8, place[1] - place[0])), "big")
