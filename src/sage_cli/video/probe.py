"""What is in a media file: found by reading it, because headers lie. Also the one way in which this room opens and reads files.

**The clock.** Zero is the earlier of the first video frame on screen and the first sound. Whatever offset a container starts at
(MPEG-TS begins anywhere) is gone; a stream that starts late against the other keeps its delay. Encoder priming before a container's
own zero, which no player lets be heard, does not count. Edit lists are honoured: frames they cut do not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sage_cli.errors import VideoError
from sage_cli.store.content import fingerprint

log = logging.getLogger(__name__)

# Consecutive read errors after which the rest of a file is given up.
_MAX_READ_ERRORS = 32

# Titles in some other encoding are no reason to fail; from PyAV 19 on they never are.
_LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}

# Sound this little before a container's zero, in seconds, is the encoder's priming.
_MAX_PRIMING = 1


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels are turned before display: transposed first, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation(self) -> Literal[0, 90, 180, 270]:
        """Degrees clockwise; a mirrored picture counts as its rotation alone."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The video stream; sizes are for display: upright, square pixels."""

    index: int
    codec: str
    width: int
    height: int
    orientation: Orientation
    fps: float | None


@dataclass(frozen=True, slots=True)
class AudioTrack:
    index: int
    codec: str
    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Media:
    """A probed file. ``origin`` is the container's time at which the clock reads zero, ``duration`` the last moment on it, in seconds."""

    path: Path
    id: str
    origin: Fraction
    duration: float
    video: VideoTrack | None
    audio: AudioTrack | None


def probe(path: Path) -> Media:
    """Look into a media file: decodes its first frame and reads its last packets.

    Raises:
        VideoError: there is no such file, or nothing in it can be shown or heard.
    """
    _check_file(path)
    with open_media(path) as container:
        video_stream, audio_stream = _choose_streams(container)
        video, first_frame = _video_track(container, video_stream, path) if video_stream is not None else (None, None)
        audio_index = None if audio_stream is None else audio_stream.index
    with open_media(path) as container:
        audio, first_sound = _audio_track(container, audio_index, path) if audio_index is not None else (None, None)
        begins = [time for time in (first_frame, first_sound) if time is not None]
        if not begins:
            raise VideoError(f"{path} has not a single frame or sound in it; record, download or export it again")
        indices = [track.index for track in (video, audio) if track is not None]
        end = _end(container, indices, 1 / Fraction(video.fps if video and video.fps else 25))
    return Media(path, fingerprint(path), min(begins), float(max(end - min(begins), Fraction(1, 1000))), video, audio)


def open_media(path: Path) -> InputContainer:
    """Open a local file for reading. Playlists inside it cannot lead to the network: only the file protocol is allowed.

    Raises:
        VideoError: it cannot be opened, or is no media file.
    """
    try:
        container: InputContainer = av.open(str(path), "r", options={"protocol_whitelist": "file"}, **_LENIENT)
        return container
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, OSError):  # PyAV's errors are both
            raise VideoError(f"cannot open {path}: {error.strerror}") from error
        raise VideoError(f"{path} cannot be read as video: damaged, cut short, or not a media file; try it in a player") from error


def packets(container: InputContainer, *indices: int) -> Iterator[Packet[Any]]:
    """Packets of the given streams from the current position on, past read errors; at the end the empty ones that flush decoders."""
    errors = 0
    while errors < _MAX_READ_ERRORS:
        try:
            for packet in container.demux([container.streams[index] for index in indices]):
                yield packet
                errors = 0
            return
        except av.FFmpegError as error:
            errors += 1
            log.debug("%s: read error: %s", container.name, error)


def undecodable(path: Path, codec: str) -> VideoError:
    return VideoError(f"no frame of {path} can be decoded ({codec}): damaged, or unknown to this FFmpeg; convert it to H.264")


def time_base(timed: Any) -> Fraction:
    """Seconds per tick of a stream, packet, frame or codec; PyAV 19 has rational numbers of its own, earlier ones have None for unknown."""
    base = timed.time_base
    return Fraction(base.numerator, base.denominator) if base else Fraction(1, 1_000_000)


def packet_time(packet: Packet[Any]) -> Fraction | None:
    """Presentation time in the container's own seconds; the decoding time stands in where there is none (AVI)."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None else stamp * time_base(packet)


def frame_time(frame: VideoFrame | AudioFrame) -> Fraction:
    """Presentation time in the container's own seconds; only for frames that have a ``pts``."""
    return cast(int, frame.pts) * time_base(frame)


# ---- streams -------------------------------------------------------------------------------------------------------


def _choose_streams(container: InputContainer) -> tuple[VideoStream | None, AudioStream | None]:
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]  # cover art is no video
    best = container.streams.best("video")
    video = best if best in pictures else next(iter(pictures), None)
    return video, cast("AudioStream | None", container.streams.best("audio"))


def _video_track(container: InputContainer, stream: VideoStream, path: Path) -> tuple[VideoTrack | None, Fraction | None]:
    """The track and the time of its first frame; None for both when the stream is empty.

    Raises:
        VideoError: there is something, but no frame of it can be decoded.
    """
    frame = cast("VideoFrame | None", _first_decoded(container, stream.index))
    if frame is None:
        if stream.frames:
            raise undecodable(path, _codec_name(stream))
        return None, None
    orientation = _orientation(frame)
    aspect = float(stream.sample_aspect_ratio or 1)
    # Widen or heighten, never flatten: no line of the picture is lost.
    width, height = (round(frame.width * aspect), frame.height) if aspect >= 1 else (frame.width, round(frame.height / aspect))
    if orientation.transpose:
        width, height = height, width
    rate = stream.average_rate or stream.guessed_rate
    track = VideoTrack(stream.index, _codec_name(stream), width, height, orientation, float(rate) if rate else None)
    return track, frame_time(frame)


def _audio_track(container: InputContainer, index: int, path: Path) -> tuple[AudioTrack | None, Fraction | None]:
    """The track and the time of its first sound; None for both when the stream is empty or cannot be decoded."""
    stream = cast(AudioStream, container.streams[index])
    frame = _first_decoded(container, index)
    if frame is None:
        log.warning("%s: the sound cannot be decoded (%s); going on without", path.name, stream.codec_context.name)
        return None, None
    start = frame_time(frame)
    track = AudioTrack(index, _codec_name(stream), stream.rate, stream.codec_context.channels)
    return track, Fraction(0) if -_MAX_PRIMING < start < 0 else start


def _first_decoded(container: InputContainer, index: int) -> VideoFrame | AudioFrame | None:
    for packet in packets(container, index):
        try:
            frames = cast("list[VideoFrame | AudioFrame]", packet.decode())
        except av.FFmpegError:
            continue
        if frames:
            frame = frames[0]
            frame.pts = frame.pts if frame.pts is not None else frame.dts or 0
            return frame
    return None


def _codec_name(stream: VideoStream | AudioStream) -> str:
    """The format's name (``mp3``), not the decoder's (``mp3float``)."""
    return str(stream.codec_context.codec.canonical_name)


def _orientation(frame: VideoFrame) -> Orientation:
    """From the display matrix ((a, b), (c, d)), which maps a stored (x, y) to (a x + c y, b x + d y) on screen."""
    matrix = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix)[:20], np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, flip_x=a < 0, flip_y=d < 0)
    return Orientation(True, flip_x=c < 0, flip_y=b < 0)


# ---- times ---------------------------------------------------------------------------------------------------------


def _end(container: InputContainer, indices: list[int], frame_length: Fraction) -> Fraction:
    """Where the last packet ends, in the container's time.

    Reads from the last keyframe before the end that the header claims. If nothing is there (the header claims too much), or there is
    no claim, everything is read.
    """
    claimed = container.duration
    if claimed:
        try:
            container.seek(max(0, (container.start_time or 0) + claimed))
            if (end := _last(container, indices, frame_length)) is not None:
                return end
        except av.FFmpegError:
            pass
    with open_media(Path(container.name)) as whole:
        return _last(whole, indices, frame_length) or Fraction(0)


def _last(container: InputContainer, indices: list[int], frame_length: Fraction) -> Fraction | None:
    end, untimed = Fraction(0), 0
    for packet in packets(container, *indices):
        if packet.size and not packet.is_discard:
            length = packet.duration * time_base(packet) if packet.duration else frame_length
            if (time := packet_time(packet)) is None:
                untimed += 1
            else:
                end = max(end, time + length)
    return end or untimed * frame_length or None  # bare streams (.h264) have no clock: count


# ---- the file ------------------------------------------------------------------------------------------------------


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a directory; give a video file")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes); download or export it again")
    except FileNotFoundError:
        raise VideoError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise VideoError(f"cannot open {path}: {error.strerror or error}") from error
