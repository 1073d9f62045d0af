"""A decoder of a video, :class:`FrameCursor`: the frame on screen at a given time, with as little decoding as possible."""

from __future__ import annotations

import bisect
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, islice
from threading import Event
from typing import Any, Literal, cast

import av
import cv2
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from sage_cli.errors import VideoError
from sage_cli.hardware.waiting import Stopped
from sage_cli.video.media import Media, Orientation, VideoTrack
from sage_cli.video.order import DisplayOrder
from sage_cli.video.source import MediaFile, frame_time, packet_time, time_base
from sage_cli.video.timeline import Keyframe
from sage_cli.video.tonemap import MATRICES, is_hdr, tone_mapped

log = logging.getLogger(__name__)

# A frame counts as begun this many seconds early: times are floats, and Matroska rounds its own to whole milliseconds.
TOLERANCE = Fraction(1, 2000)

# Frames that must be saved to make a seek worthwhile: refilling the decoder's threads and reorder buffer costs about as much.
_SEEK_COST = 8

# Pixels of a picture that is decoded by one thread.
_LARGE = 40_000_000

# Keyframes to try for one target before seeking is given up for good.
_SEEK_ATTEMPTS = 5

_UNKNOWN_MATRIX = 2  # as FFmpeg numbers them

# Codecs whose packets are a frame each, so that they tell what is shown when; H.264 only where it is progressive.
_ONE_PACKET_A_FRAME = {"h264", "hevc", "vp8", "vp9", "av1"}
_PROGRESSIVE = 1  # FFmpeg's AV_FIELD_PROGRESSIVE

# Codecs in which "nothing refers to this frame" is always true when it is said. (In HEVC it is said of a temporal layer only.)
_MARKS_UNREFERENCED = {"h264"}


class Unseekable(Exception):
    """No seek in this file ends where it should."""


class FrameCursor:
    """Gives the frames on screen at successive times. Keeps only the frame on screen and the next one.

    It decodes as little as possible without changing any pixels: frames that no other frame refers to (H.264 marks them) are skipped if
    another frame follows before the requested time.

    Args:
        threads: of the decoder; 0 for one per core.
        alone: if seeks fail, decode the file from start to end instead of raising :class:`Unseekable`.
        stop: set by another thread to stop the work, with :class:`Stopped`.
        damaged: collects the decoding times of damaged packets, for the owner to report; without it they are reported on closing.
    """

    def __init__(
        self,
        media: Media,
        track: VideoTrack,
        keyframes: Sequence[Keyframe],
        *,
        threads: int = 0,
        alone: bool = True,
        stop: Event | None = None,
        damaged: set[int | None] | None = None,
    ) -> None:
        self._media, self._track, self._keyframes = media, track, keyframes
        self._threads, self._alone, self._stop = threads, alone, stop
        self._tells, self._damaged = damaged is None, set() if damaged is None else damaged
        self._file = self._open()
        # If a frame may be two packets, one per field, packets do not show what is on screen when. (PyAV before 18 cannot tell.)
        field_order = int(getattr(self._codec, "field_order", 0))
        timed = track.retiming is None and (track.codec != "h264" or field_order == _PROGRESSIVE)
        self._looks_ahead = timed and track.codec in _ONE_PACKET_A_FRAME
        self._frames: Iterator[VideoFrame] = iter(())
        self._shown: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._target, self._last = Fraction(0), False
        self._due: Fraction | None = None  # a frame for which others were skipped
        self._fresh = True  # nothing has been read since opening
        self._drained = False  # the decoder was given no more than it needed: only a seek leads on

    def close(self) -> None:
        self._file.close()
        if self._tells:
            tell_damage(self._media, self._damaged)

    def at(self, target: Fraction, *, last: bool = False) -> VideoFrame:
        """The last frame presented at or before ``target`` (container seconds, within ``TOLERANCE``), or the first of all.

        Args:
            last: the next call is for an earlier time or one after a later keyframe, so nothing after this frame need be decoded.

        Raises:
            VideoError: nothing can be decoded.
        """
        target += TOLERANCE
        self._target, self._last = target, last
        position = self._shown or self._next
        if self._fresh:
            self._go(jump(self._keyframes, self._track, self._keyframes[0].time, target) or 0, target)
        elif self._drained:
            self._go(keyframe_before(self._keyframes, target), target)
        elif position is not None and (number := jump(self._keyframes, self._track, frame_time(position), target)) is not None:
            self._go(number, target)
        self._forward(target)
        if self._due is not None and (self._shown is None or frame_time(self._shown) < self._due):
            # The frame for which others were skipped is missing, as in damaged files: the closest frame may be among the skipped ones.
            self._looks_ahead = False
            self._go(keyframe_before(self._keyframes, target), target)
            self._forward(target)
        frame = self._shown or self._next
        if frame is None:
            raise VideoError(f"no frame of {self._media.name} can be decoded ({self._track.codec}): the file is damaged; export it again")
        return frame

    def keyframe(self, number: int) -> VideoFrame | None:
        """A keyframe decoded alone; None if that is not possible.

        Raises:
            Unseekable: a seek to it ends elsewhere.
        """
        stream = self._packets_from(number)
        first = _first_keyframe(stream) if stream is not None else None
        time = packet_time(first) if first is not None else None
        if first is None or time is None or not self._is_closest(number, time):
            raise Unseekable
        self._begin(self._decode(iter([first, _flush(first)])))
        self._drained = True
        return self._next

    def after(self) -> VideoFrame | None:
        """Move on to the next frame; None at the end of the video."""
        self._shown, self._next = self._next, next(self._frames, None)
        return self._shown

    def _is_closest(self, number: int, time: Fraction) -> bool:
        """Whether the time (which may be more exact than the known time of the keyframe) is between those of its neighbours."""
        before, after = self._keyframes[:number][-1:], self._keyframes[number + 1 :][:1]
        return all(keyframe.time < time for keyframe in before) and all(time < keyframe.time for keyframe in after)

    @property
    def _codec(self) -> Any:
        return self._file.stream(self._track.index).codec_context

    def _open(self) -> MediaFile:
        file = self._media.open(self._stop)
        codec = file.stream(self._track.index).codec_context
        # Each thread of a decoder may hold a picture.
        threads = 1 if self._track.width * self._track.height > _LARGE else self._threads
        codec.thread_type = "NONE" if threads == 1 else "AUTO"
        codec.thread_count = threads
        return file

    def _packets_from_start(self) -> Iterator[Packet[Any]]:
        if not self._fresh:
            self._file.close()
            self._file = self._open()
        self._fresh = False
        return self._file.packets(self._track.index)

    def _begin(self, frames: Iterator[VideoFrame]) -> None:
        self._frames, self._shown, self._due, self._drained = frames, None, None, False
        self._next = next(frames, None)

    def _forward(self, target: Fraction) -> None:
        while self._next is not None and frame_time(self._next) <= target:
            self._shown, self._next = self._next, next(self._frames, None)

    def _packets_from(self, number: int) -> Iterator[Packet[Any]] | None:
        """Packets from near a keyframe on; None if the demuxer cannot seek there."""
        stamp = self._keyframes[number].stamp
        if self._media.shifts:  # times are not unique, so packets are counted
            return islice(self._packets_from_start(), stamp, None)
        self._fresh = False
        try:
            self._file.seek(stamp, self._track.index)
        except av.FFmpegError:
            return None
        return self._file.packets(self._track.index)

    def _go(self, number: int, target: Fraction) -> None:
        """Seek to a keyframe, or to an earlier one if the demuxer lands too late or nothing decodes, or to the start of the file.

        Raises:
            Unseekable: none of them can be reached, and the cursor is not ``alone``.
        """
        for attempt in range(_SEEK_ATTEMPTS):
            if number <= 0:
                break
            if (stream := self._packets_from(number)) is None:
                continue
            first = _first_keyframe(stream)
            if first is not None and (time := packet_time(first)) is not None and self._keyframes[number].landed(time, target):
                # Frames decoded after the keyframe but shown before it refer to frames that were skipped.
                self._begin(frame for frame in self._decode(chain([first], stream)) if frame_time(frame) >= time)
                if self._next is not None and frame_time(self._next) <= target:
                    return
            number -= 1 << attempt
        else:
            log.debug("%s: cannot be seeked in; decoding straight through", self._media.path.name)
            if not self._alone:
                raise Unseekable
            self._keyframes = self._keyframes[:1]
        self._begin(self._decode(self._packets_from_start()))

    def _decode(self, stream: Iterator[Packet[Any]]) -> Iterator[VideoFrame]:
        """Frames in presentation order, without damaged packets; each has a presentation time."""
        following = Fraction(0)
        order = DisplayOrder(self._track.retiming.held) if self._track.retiming is not None else None
        for packet in self._needed(stream):
            if self._stop is not None and self._stop.is_set():
                raise Stopped
            if order is not None:
                order.decoding(packet)
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if order is not None:
                    order.failed(packet)
                self._damaged.add(packet.dts)
                log.debug("%s: damaged packet at %s: %s", self._media.path.name, packet.pts, error)
                continue
            for frame in frames:
                if order is not None:
                    order.shown(frame)
                if frame.pts is None:  # bare streams (.h264) have no clock: count
                    frame.pts = round(following / time_base(frame))
                following = frame_time(frame) + 1 / self._track.rate
                yield frame

    def _needed(self, stream: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        """The packets up to the last frame needed, with the decoder set to skip frames that no other frame depends on."""
        codec = self._codec
        ahead: deque[Packet[Any]] = deque()
        skipping = False
        codec.skip_frame = "DEFAULT"
        while (packet := ahead.popleft() if ahead else next(stream, None)) is not None:
            outlook = self._outlook(packet, ahead, stream) if self._looks_ahead else None
            if self._track.codec in _MARKS_UNREFERENCED and skipping != (outlook == "gives way"):
                skipping = not skipping
                codec.skip_frame = "NONREF" if skipping else "DEFAULT"
            yield packet
            if outlook == "shown" and self._last:
                # Flushed, the decoder outputs the frames it holds back for reordering without needing later packets.
                self._drained = True
                yield _flush(packet)
                return

    def _outlook(
        self, packet: Packet[Any], ahead: deque[Packet[Any]], stream: Iterator[Packet[Any]]
    ) -> Literal["gives way", "shown"] | None:
        """Whether another frame replaces the packet's frame before the target (``"gives way"``), or it is on screen then (``"shown"``).

        Reads as many packets ahead as this takes: they come in order of decoding time, and no frame is shown before its own. None if
        neither is true, or it cannot be known.
        """
        target = self._target // time_base(packet)
        if packet.pts is None or packet.dts is None or packet.is_discard or packet.pts > target:
            return None

        def later() -> Iterator[Packet[Any]]:
            yield from tuple(ahead)
            for other in stream:
                ahead.append(other)
                yield other

        for other in later():
            if not other.size:
                break
            if other.pts is None or other.dts is None:
                return None
            if packet.pts < other.pts <= target and not other.is_discard:
                time = other.pts * time_base(other)
                self._due = time if self._due is None else max(self._due, time)
                return "gives way"
            if other.dts > target:
                break
        return "shown"


def _first_keyframe(stream: Iterator[Packet[Any]]) -> Packet[Any] | None:
    return next((packet for packet in stream if packet.is_keyframe and packet.size), None)


def _flush(packet: Packet[Any]) -> Packet[Any]:
    """The empty packet that flushes the decoder of this packet's stream."""
    empty: Packet[Any] = Packet()
    empty.stream, empty.time_base = packet.stream, packet.time_base
    return empty


def tell_damage(media: Media, damaged: set[int | None]) -> None:
    if damaged:
        log.warning("%s: skipped %d damaged packets", media.path.name, len(damaged))
        media.damaged("video")


def jump(keyframes: Sequence[Keyframe], track: VideoTrack, position: Fraction, target: Fraction) -> int | None:
    """Index of the keyframe to seek to for ``target`` from ``position``; None to go on decoding."""
    number = keyframe_before(keyframes, target)
    saved = (keyframes[number].time - position) * track.rate
    return number if saved > _SEEK_COST or (target < position and saved < 0) else None


def keyframe_before(keyframes: Sequence[Keyframe], target: Fraction) -> int:
    """Index of the last keyframe at or before ``target``, or of the first."""
    return max(0, bisect.bisect_right(keyframes, target, key=lambda keyframe: keyframe.time) - 1)


def picture(frame: VideoFrame, orientation: Orientation, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame for an ordinary screen: RGB, upright, ``size`` (width, height). Scaling before rotation is cheaper.

    Area averaging avoids aliasing, as antialiased resizing in the reference does.
    """
    stored = size[::-1] if orientation.transpose else size
    left, top, right, bottom = orientation.crop
    whole = (frame.width, frame.height)
    scaled = stored if orientation.crop == (0, 0, 0, 0) else whole  # what is cropped is scaled at last
    if frame.colorspace not in MATRICES:
        frame.colorspace = _UNKNOWN_MATRIX  # which is taken for that of standard definition; a wrong shade is better than no picture
    if is_hdr(frame):
        frame = tone_mapped(frame, scaled)
    elif scaled[0] * scaled[1] < whole[0] * whole[1] and not (frame.format.is_rgb or frame.format.has_palette):
        # Luma and chroma are averaged each from its own size, and only the small picture becomes RGB. That is much cheaper than the
        # other way around, and more exact; swscale's shortcut from YUV to small RGB is neither.
        frame = frame.reformat(*scaled, format="yuv444p", interpolation=Interpolation.AREA)
    image = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
    image = image[top : image.shape[0] - bottom, left : image.shape[1] - right]
    height, width = image.shape[:2]
    if stored != (width, height):
        shrinks = stored[0] * stored[1] < width * height
        image = cast("NDArray[np.uint8]", cv2.resize(image, stored, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
    if orientation.transpose:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if orientation.flip_y else 1, :: -1 if orientation.flip_x else 1])
