"""Cuts a clip of a video to a new file."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from io import BytesIO
from threading import Event
from typing import Any, cast

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sage_cli.errors import VideoError
from sage_cli.video.media import AudioTrack, Media, VideoTrack
from sage_cli.video.reader import TOLERANCE, FrameCursor, picture
from sage_cli.video.sound import blocks, sound
from sage_cli.video.source import frame_time, time_base

# The first encoder that this build of FFmpeg has.
_ENCODERS = ("libx264", "mpeg4")
_OPTIONS = {"libx264": {"preset": "veryfast"}}
# Of slides. Without B-frames, an MP4 gives each frame the length that it has on screen: it counts that from one packet to the next.
_SLOW = Fraction(5)
_SLOW_OPTIONS = {"libx264": {**_OPTIONS["libx264"], "bf": "0"}}
_CLOCK = Fraction(1, 90000)
_COLORS = (Colorspace.ITU709, ColorPrimaries.BT709, ColorTrc.BT709, ColorRange.MPEG)

# Minimum frame rate given to an encoder: none accepts one frame in half an hour.
_SLOWEST = Fraction(1)

# Larger pictures are scaled down: encoding 4K would take minutes.
_MOST_PIXELS = 1920 * 1080

# Of files by their suffix: those that hold H.264 and AAC.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".m4a": "ipod", ".ts": "mpegts"}

_AUDIO_FRAME = 1024


def cut(media: Media, start: float, end: float, container: str, target: BytesIO, stop: Event) -> Iterator[float]:
    """Write ``[start, end)`` to ``target``; see :meth:`sage_cli.video.Video.clip`. Yields how many seconds are done.

    Args:
        container: a value of :data:`CONTAINERS`.
        stop: set by another thread to end this.
    """
    try:
        with av.open(target, "w", format=container) as output:
            tracks = [_video_packets(output, media, media.video, start, end, stop)] if media.video is not None else []
            tracks += [_audio_packets(output, media, media.audio, start, end, stop)] if media.audio is not None else []
            yield from _interleave(output, tracks)
    except (av.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise MemoryError(f"not enough memory to cut {media.name}") from error
        raise VideoError(f"{media.name} cannot be cut: {getattr(error, 'strerror', None) or error}") from error


def _interleave(output: OutputContainer, tracks: list[Iterator[Packet[Any]]]) -> Iterator[float]:
    """Interleave the streams by time. Yields the time reached."""
    heads = [(packet, track) for track in tracks if (packet := next(track, None)) is not None]
    while heads:
        heads.sort(key=lambda head: (head[0].dts or 0) * time_base(head[0]))
        packet, track = heads.pop(0)
        yield float((packet.dts or 0) * time_base(packet))
        output.mux(packet)
        if (following := next(track, None)) is not None:
            heads.append((following, track))


def _video_packets(
    output: OutputContainer, media: Media, track: VideoTrack, start: float, end: float, stop: Event
) -> Iterator[Packet[Any]]:
    scale = min(1.0, math.sqrt(_MOST_PIXELS / (track.width * track.height)))
    size = (int(track.width * scale) // 2 * 2 or 2, int(track.height * scale) // 2 * 2 or 2)  # 4:2:0 wants even sides
    codec = next((name for name in _ENCODERS if name in av.codec.codecs_available), _ENCODERS[-1])
    rate = max(_SLOWEST, track.rate.limit_denominator(1001))
    stream = cast(VideoStream, output.add_stream(codec, rate=rate, options=(_SLOW_OPTIONS if rate < _SLOW else _OPTIONS).get(codec, {})))
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    # Players take untagged pictures for BT.709 or BT.601 by their height.
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = _COLORS
    context.time_base = tick = _CLOCK if codec == "libx264" else 1 / rate

    def frames() -> Iterator[VideoFrame | None]:
        first, last = media.origin + Fraction(start), media.origin + Fraction(end) - TOLERANCE
        stamp, final = -1, round((Fraction(end) - Fraction(start) - 1 / rate) / tick)
        with closing(FrameCursor(media, track, media.keyframes, stop=stop)) as cursor:
            decoded: VideoFrame | None = cursor.at(first)
            while decoded is not None and (stamp < 0 or frame_time(decoded) < last):
                frame = _encodable(picture(decoded, track.orientation, size))
                stamp = max(stamp + 1, round((frame_time(decoded) - first) / tick))
                frame.pts, frame.time_base = stamp, tick
                yield frame
                decoded = cursor.after()
        # Containers keep no length of the last frame: one that stays on screen longer than others is shown once more just before the end.
        if stamp >= 0 and (final - stamp) * tick * rate > Fraction(1, 2):
            frame.pts = final
            yield frame
        yield None

    def encoded() -> Iterator[Packet[Any]]:
        for packet in (packet for frame in frames() for packet in stream.encode(frame)):
            # Without it the last frame of an MP4 has no length at all.
            packet.duration = packet.duration or round(1 / rate / time_base(packet))
            yield packet

    return encoded()


def _encodable(image: NDArray[np.uint8]) -> VideoFrame:
    space, primaries, transfer, color_range = _COLORS
    return VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=space,
        dst_color_range=color_range,
        dst_color_trc=transfer,
        dst_color_primaries=primaries,
    )


def _audio_packets(
    output: OutputContainer, media: Media, track: AudioTrack, start: float, end: float, stop: Event
) -> Iterator[Packet[Any]]:
    layout = "mono" if track.channels == 1 else "stereo"
    # Encoders take a few rates alone: the lowest that loses nothing.
    rate = min(rate for rate in av.codec.Codec("aac", "w").audio_rates or (48000,) if rate >= min(track.rate, 48000))
    stream = output.add_stream("aac", rate=rate, layout=layout)

    def encoded() -> Iterator[Packet[Any]]:
        at = 0
        for block in blocks(sound(media, track, start, end, rate=rate, layout=layout, stop=stop), _AUDIO_FRAME):
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
            at += block.shape[1]
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return encoded()
