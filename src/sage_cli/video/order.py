"""Times of pictures in files that store none.

AVI, ASF and MXF, as many programs write them, have the times at which H.264 is decoded, or no more than its order. Of those FFmpeg makes
presentation times by guessing, and as pictures are shown in another order than they are decoded in, the times jump back and forth. The
decoder still gives the pictures in the order in which they are shown: here each takes the earliest time that is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from heapq import heapify, heappop, heappush
from itertools import islice, pairwise
from typing import Any, Final, cast

import av
from av.container import Flags
from av.packet import Packet
from av.video.frame import VideoFrame

from sage_cli.video.source import MediaFile, Retiming, time_base

# Packets at the beginning of a file that are examined: more than a picture is held back for reordering.
_EXAMINED: Final = 48


def retiming(file: MediaFile, begun: Sequence[Packet[Any]], rest: Iterator[Packet[Any]], frame: VideoFrame) -> Retiming | None:
    """How packets are timed that have no presentation times of their own; None if they have.

    Args:
        begun: the packets that were decoded until the first frame came.
        rest: those after them.
        frame: the first one.
    """
    first, last = begun[0], begun[-1]
    packets, reorders = list(begun), file.stream(first.stream_index).codec_context.has_b_frames
    if not _ascend([packet.pts for packet in packets]):
        return None
    for packet in islice(rest, _EXAMINED):
        if packet.size:
            before = packets[-1].pts
            if not _ascend([before, packet.pts]) or not (reorders or before == packet.dts):
                return None
            packets.append(packet)
    later = packets[len(begun) :]
    guessed = all(packet.pts == after.dts for packet, after in pairwise(packets)) and _lacks_times(file, first.stream_index)
    if not (guessed or (reorders and _is_shuffled(frame, later))):
        return None
    begin, reached = (first.dts, last.dts) if guessed else (first.pts, last.pts)
    if begin is None or reached is None:
        return None
    # The first picture is shown when the decoder gives it, as in ffmpeg: it has held it back for as long as was needed.
    shown = begin if frame.dts is None else max(begin, frame.dts)
    return Retiming(guessed, (shown - begin) * time_base(first), (reached - begin) * time_base(first))


def _ascend(stamps: Sequence[int | None]) -> bool:
    return all(stamp is not None and after is not None and stamp < after for stamp, after in pairwise(stamps))


def _is_shuffled(first: VideoFrame, packets: Sequence[Packet[Any]]) -> bool:
    """Whether frames come in another order than their times."""
    times = [first.pts]
    for packet in packets:
        try:
            times += [frame.pts for frame in packet.decode() if isinstance(frame, VideoFrame)]
        except av.FFmpegError:
            continue
    return not _ascend(times)


def _lacks_times(file: MediaFile, index: int) -> bool:
    """Whether the presentation times are FFmpeg's guesses. It makes them from the decoding times of the packets that follow."""
    with file.again() as plain:
        plain.container.flags = plain.container.flags & ~cast(int, Flags.gen_pts.value)
        return all(packet.pts is None for packet in islice(plain.packets(index), _EXAMINED))


class DisplayOrder:
    """Gives decoded pictures their times.

    Args:
        held: see :class:`~sage_cli.video.source.Retiming`.
    """

    def __init__(self, held: Fraction) -> None:
        self._held = held
        self._times: list[int] = []  # of packets whose pictures did not come yet

    def decoding(self, packet: Packet[Any]) -> None:
        """The packet goes to the decoder."""
        if packet.size and packet.pts is not None:
            heappush(self._times, packet.pts)

    def failed(self, packet: Packet[Any]) -> None:
        """No picture will come of the packet."""
        if packet.pts in self._times:
            self._times.remove(packet.pts)
            heapify(self._times)

    def shown(self, frame: VideoFrame) -> None:
        """Change the frame's time, that of its packet, into that of its place in the order."""
        if frame.pts is None:
            return
        # No picture is held back longer than that, or until after the next keyframe: what is earlier was lost.
        earliest = frame.pts if frame.key_frame else frame.pts - self._held / time_base(frame)
        while self._times and self._times[0] < earliest:
            heappop(self._times)
        if self._times:
            frame.pts = heappop(self._times)
