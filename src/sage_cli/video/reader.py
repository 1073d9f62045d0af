"""Frames of a video at given times, each the one on screen at that time, with as little decoding as will do."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any, Literal, NamedTuple, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from sage_cli.video.frame import Frame, frame_key
from sage_cli.video.probe import Media, Orientation, VideoTrack, frame_time, open_media, packet_time, packets, time_base, undecodable

log = logging.getLogger(__name__)

Method = Literal["seek", "scan"]

# A frame counts as begun this many seconds early: times are floats, and Matroska rounds its own to whole milliseconds.
TOLERANCE = Fraction(1, 2000)

# Frames that must be saved to make a seek worthwhile: refilling the decoder's threads and reorder buffer costs about as much.
_SEEK_COST = 8


# Keyframes to try for one target before seeking is given up for good.
_SEEK_ATTEMPTS = 5


class Keyframe(NamedTuple):
    """Where decoding can begin: presentation time (container seconds; exact or estimated), and the stream's timestamp to seek to."""

    time: Fraction
    stamp: int
    exact: bool

    def landed(self, time: Fraction, target: Fraction) -> bool:
        """Whether a seek here that found a packet of this time serves the target.

        Demuxers that have to guess timestamps guess others after a seek (MPEG-PS), so a time that is known must come out again.
        """
        return time == self.time if self.exact else time <= target


class FrameReader(Iterator[Frame]):
    """Iterator over the frames on screen at ``times``; see :meth:`sage_cli.video.Video.frames`.

    Attributes:
        method: ``"seek"`` when stretches between samples are jumped over, ``"scan"`` when the video is decoded straight through.
    """

    def __init__(
        self,
        media: Media,
        track: VideoTrack,
        keyframes: Sequence[Keyframe],
        times: Sequence[float],
        size: tuple[int, int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._screen = Screen(media, track, keyframes)
        targets = [media.origin + Fraction(time) for time in times]
        visits = pairwise([keyframes[0].time, *targets])
        self.method: Method = "seek" if any(self._screen.jump(*visit) is not None for visit in visits) else "scan"
        self._frames = self._read(media, track, targets, size, progress)

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Let go of the file before the last frame; reaching the end does it too."""
        self._frames.close()

    def _read(
        self, media: Media, track: VideoTrack, targets: list[Fraction], size: tuple[int, int], progress: Callable[[int, int], None] | None
    ) -> Generator[Frame, None, None]:
        with closing(self._screen) as screen:
            for done, target in enumerate(targets, 1):
                frame = screen.at(target)
                time = float(frame_time(frame) - media.origin)
                yield Frame(time, picture(frame, track.orientation, size), frame_key(media.id, time, size))
                if progress is not None:
                    progress(done, len(targets))


class Screen:
    """What a video shows, one moment after the other. Holds the frame on screen and the one after it, no more."""

    def __init__(self, media: Media, track: VideoTrack, keyframes: Sequence[Keyframe]) -> None:
        self._media, self._track, self._keyframes = media, track, keyframes
        self._container: InputContainer | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._shown: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._damaged: set[int | None] = set()

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        if self._damaged:
            log.warning("%s: skipped %d damaged packets", self._media.path.name, len(self._damaged))

    def jump(self, position: Fraction, target: Fraction) -> int | None:
        """Number of the keyframe to go to for ``target`` when decoding has got to ``position``; None to decode on."""
        number = max(0, bisect.bisect_right(self._keyframes, target, key=lambda keyframe: keyframe.time) - 1)
        saved = (self._keyframes[number].time - position) * Fraction(self._track.fps or 25)
        return number if saved > _SEEK_COST or (target < position and saved < 0) else None

    def at(self, target: Fraction) -> VideoFrame:
        """The last frame presented at or before ``target`` (container seconds, within ``TOLERANCE``), or the first of all.

        Raises:
            VideoError: nothing can be decoded.
        """
        target += TOLERANCE
        if self._container is None:
            self._restart()
        position = self._shown or self._next
        if position is not None and (number := self.jump(frame_time(position), target)) is not None:
            self._seek(number, target)
        while self._next is not None and frame_time(self._next) <= target:
            self._shown, self._next = self._next, next(self._frames, None)
        frame = self._shown or self._next
        if frame is None:
            raise undecodable(self._media.path, self._track.codec)
        return frame

    def after(self) -> VideoFrame | None:
        """Move on to the next frame; None at the end of the video."""
        self._shown, self._next = self._next, next(self._frames, None)
        return self._shown

    def _restart(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = open_media(self._media.path)
        self._container.streams[self._track.index].codec_context.thread_type = "AUTO"
        self._begin(self._decode(packets(self._container, self._track.index)))

    def _begin(self, frames: Iterator[VideoFrame]) -> None:
        self._frames, self._shown = frames, None
        self._next = next(frames, None)

    def _seek(self, number: int, target: Fraction) -> None:
        """Go to a keyframe; to an earlier one where the demuxer lands too late or nothing decodes; to the very beginning."""
        assert self._container is not None
        for attempt in range(_SEEK_ATTEMPTS):
            if number <= 0:
                break
            try:
                self._container.seek(self._keyframes[number].stamp, stream=self._container.streams[self._track.index])
            except av.FFmpegError:
                continue
            stream = packets(self._container, self._track.index)
            first = next((packet for packet in stream if packet.is_keyframe and packet.size), None)
            if first is not None and (time := packet_time(first)) is not None and self._keyframes[number].landed(time, target):
                # Frames that a keyframe's successors show before it want the frames that were jumped over.
                self._begin(frame for frame in self._decode(chain([first], stream)) if frame_time(frame) >= time)
                if self._next is not None and frame_time(self._next) <= target:
                    return
            number -= 1 << attempt
        else:
            log.debug("%s: cannot be seeked in; decoding straight through", self._media.path.name)
            self._keyframes = self._keyframes[:1]
        self._restart()

    def _decode(self, stream: Iterator[Packet[Any]]) -> Iterator[VideoFrame]:
        """Frames in presentation order, past damaged packets; every one has a presentation time."""
        following = Fraction(0)
        for packet in stream:
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self._damaged.add(packet.dts)
                log.debug("%s: damaged packet at %s: %s", self._media.path.name, packet.pts, error)
                continue
            for frame in frames:
                if frame.pts is None:  # bare streams (.h264) have no clock: count
                    frame.pts = round(following / time_base(frame))
                following = frame_time(frame) + 1 / Fraction(self._track.fps or 25)
                yield frame


def picture(frame: VideoFrame, orientation: Orientation, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The frame as people see it: RGB, upright, ``size`` (width, height). Scaling before turning is the cheaper order."""
    image = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
    stored = size[::-1] if orientation.transpose else size
    if stored != (frame.width, frame.height):
        shrinks = stored[0] * stored[1] < frame.width * frame.height
        # Averaging whole areas keeps fine detail from turning into aliasing, as antialiased resizing in the reference does.
        image = cast("NDArray[np.uint8]", cv2.resize(image, stored, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
    if orientation.transpose:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if orientation.flip_y else 1, :: -1 if orientation.flip_x else 1])


def find_keyframes(media: Media, track: VideoTrack) -> list[Keyframe]:
    """The points at which decoding can begin, at least one, in time order.

    They come from the file's own index, or from reading all packets where it has none.
    MP4's index holds decoding times, but is sought in by presentation time: later by the delay of reordering, for which the first packet's
    has to stand.
    """
    with open_media(media.path) as container:
        stream = container.streams[track.index]
        base = time_base(stream)
        first = next((packet for packet in packets(container, track.index) if packet.pts is not None and packet.dts is not None), None)
        matroska = "matroska" in container.format.name
        if matroska:
            # Its index stands at the end of the file and is read only when a seek asks for it.
            with suppress(av.FFmpegError):
                container.seek(int((media.origin + Fraction(media.duration)) / base), stream=stream)
        # Fragmented MP4 and others without a frame count have no index worth the name.
        if (matroska or stream.frames) and (index := [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]):
            delay = 0 if matroska or first is None else cast(int, first.pts) - cast(int, first.dts)
            return [Keyframe((stamp + delay) * base, stamp + delay, exact=matroska) for stamp in index]
    with open_media(media.path) as container:
        keys = (packet for packet in packets(container, track.index) if packet.is_keyframe and packet.size)
        timed = ((time, packet) for packet in keys if (time := packet_time(packet)) is not None)
        found = sorted(Keyframe(time, packet.dts if packet.dts is not None else round(time / base), exact=True) for time, packet in timed)
        return found or [Keyframe(media.origin, round(media.origin / base), exact=False)]
