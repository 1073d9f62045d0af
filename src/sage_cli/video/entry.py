"""Finds the packets at which decoding can start with a complete picture.

Containers and parsers mark them as keyframes. In H.264 they also mark recovery points, after which the picture becomes complete only
gradually (periodic intra refresh). In other codecs all marked packets are random access points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

HEAD: Final = 8192  # bytes of a packet that are examined

_SLICE, _IDR, _SEI = 1, 5, 6
_HEVC_SLICES, _HEVC_IDR = range(32), (19, 20)
_RECOVERY_POINT: Final = 6
_INTRA: Final = (2, 4, 7, 9)  # slice types I and SI


def entry_points(stream: Any, *, closed: bool = False) -> Callable[[bytes], bool]:
    """A test for the beginnings (:data:`HEAD` bytes) of a video stream's packets that are marked as keyframes.

    Args:
        closed: that are shown before all packets after them, too, or decoded together with those that are not.
    """
    context = stream.codec_context
    codec = context.name if context is not None else ""
    if codec not in ("h264", "hevc") or (codec == "hevc" and not closed):
        return lambda head: True
    extradata = bytes(context.extradata or b"")
    at = 4 if codec == "h264" else 21  # where the size of length prefixes is
    length_size = (extradata[at] & 3) + 1 if len(extradata) > at + 2 and extradata[0] == 1 else None
    if codec == "hevc":
        return lambda head: _is_hevc_entry(head, length_size)
    return lambda head: _is_h264_entry(head, length_size, closed)


def _is_hevc_entry(head: bytes, length_size: int | None) -> bool:
    """Whether the access unit is an IDR picture (ITU-T H.265, 7.4.2.2)."""
    kinds = (unit[0] >> 1 & 63 for unit in _units(head, length_size))
    return next((kind in _HEVC_IDR for kind in kinds if kind in _HEVC_SLICES), False)


def _is_h264_entry(head: bytes, length_size: int | None, closed: bool = False) -> bool:
    """Whether the access unit is an IDR picture, or an intra picture on which everything after it can rely (ITU-T H.264, D.2.8)."""
    for unit in _units(head, length_size):
        kind = unit[0] & 31
        if kind == _IDR:
            return True
        if kind == _SEI and (frames := _recovery_frames(unit)) is not None and frames > 0:
            return False
        if kind == _SLICE:
            if closed:
                return False
            bits = _Bits(_unescaped(unit[1:40]))
            bits.exponential()  # first macroblock
            return bits.exponential() in _INTRA
    return True


def _units(head: bytes, length_size: int | None) -> Iterator[bytes]:
    """NAL units: with length prefixes (MP4, Matroska, FLV) or between start codes (Annex B)."""
    if length_size is None:
        yield from (part for part in head.split(b"\x00\x00\x01")[1:] if part)
        return
    at = 0
    while at + length_size < len(head):
        length = int.from_bytes(head[at : at + length_size], "big")
        at += length_size
        if length:
            yield head[at : at + length]
        at += length


def _recovery_frames(unit: bytes) -> int | None:
    """``recovery_frame_cnt`` of a SEI unit; None if it has no recovery point."""
    data, at = _unescaped(unit[1:]), 0
    while at + 2 < len(data):
        values = []
        for _ in range(2):  # type and size, each a run of 255s and a rest
            value = 0
            while at < len(data) and data[at] == 255:
                value, at = value + 255, at + 1
            values.append(value + (data[at] if at < len(data) else 0))
            at += 1
        if values[0] == _RECOVERY_POINT:
            return _Bits(data[at : at + 16]).exponential()
        at += values[1]
    return None


def _unescaped(data: bytes) -> bytes:
    return data.replace(b"\x00\x00\x03", b"\x00\x00")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def _bit(self) -> int:
        self._left -= 1
        return self._value >> self._left & 1 if self._left >= 0 else 1

    def exponential(self) -> int:
        """An unsigned Exp-Golomb number (9.1)."""
        zeros = 0
        while not self._bit():
            zeros += 1
        value = 1
        for _ in range(zeros):
            value = value << 1 | self._bit()
        return value - 1
