"""Media files for tests, generated with PyAV: every frame carries its own number, every sound its own tone.

>>> path = make_video(tmp_path / "clip.mp4", seconds=2, audio="tone")
>>> read_number(next(Video(path).frames([1.0])).image)
25
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Sound = NDArray[np.float32]

# ---- pictures and sounds -------------------------------------------------------------------------------------------


def numbered(index: int, size: tuple[int, int]) -> Image:
    """``index`` (below 65536) as a grid of 4x4 white and black blocks: survives any codec and any resizing."""
    width, height = size
    bits = np.array([(index >> bit) & 1 for bit in range(16)], np.uint8).reshape(4, 4)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    grey = 16 + 219 * bits[np.ix_(rows, columns)]
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def read_number(image: Image) -> int:
    """Read the number painted by :func:`numbered`, from the centres of the blocks."""
    height, width = image.shape[:2]
    value = 0
    for bit in range(16):
        y, x = int((bit // 4 + 0.5) * height / 4), int((bit % 4 + 0.5) * width / 4)
        patch = image[max(0, y - height // 16) : y + height // 16 + 1, max(0, x - width // 16) : x + width // 16 + 1]
        value |= int(patch.mean() > 127) << bit
    return value


def corners(size: tuple[int, int]) -> Image:
    """Four quarters in different colours (red, green / blue, white), which distinguish every rotation and flip."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 220)
    image[height // 2 :, width // 2 :] = (230, 230, 230)
    return image


def tone(seconds: float, *, hertz: float = 440.0, rate: int = 48000) -> Sound:
    """A sine of amplitude 0.5, mono."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# ---- files ---------------------------------------------------------------------------------------------------------

_AUDIO_CODECS = {".webm": "libopus", ".avi": "libmp3lame", ".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame"}
_QUIET = {"libx265": {"x265-params": "log-level=none"}, "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"}}


def make_video(
    path: Path,
    *,
    seconds: float = 2.0,
    fps: float | Fraction = 25,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    painter: Callable[[float, int], Image] | None = None,
    times: Sequence[float] | None = None,
    start: float = 0.0,
    gop: int = 12,
    bframes: int | None = None,
    sar: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    audio: str | Sound | None = None,
    audio_rate: int = 48000,
    audio_codec: str | None = None,
    audio_start: float = 0.0,
    codec_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Write a video file, by default two seconds of numbered frames in H.264, and return its path.

    Args:
        painter: ``(time, index) -> RGB image``; :func:`numbered` by default.
        times: presentation times of the frames, for a variable frame rate; overrides ``seconds``.
        start: presentation time of the first frame: the video stream starts late (or, below zero, is cut by an edit list).
        gop: frames between keyframes.
        sar: sample aspect ratio of the pixels.
        matrix: display matrix, nine integers (see :func:`display_matrix`).
        audio: ``"tone"`` for a 440 Hz sine as long as the video, or mono samples at ``audio_rate``.
        audio_start: presentation time of the first audio sample.
    """
    rate = Fraction(fps).limit_denominator(1001)
    moments = [float(t) for t in times] if times is not None else [float(i / rate) for i in range(round(seconds * rate))]
    length = moments[-1] + float(1 / rate)
    with av.open(str(path), "w", options=dict(container_options or {})) as output:
        stream = output.add_stream(codec, rate=rate, options={**_QUIET.get(codec, {}), **(codec_options or {})})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        # The older codecs count in whole frames; elsewhere a fine clock keeps variable and late times exact.
        stream.codec_context.time_base = 1 / rate if codec in ("mpeg4", "mjpeg", "mpeg2video") else Fraction(1, 90000)
        if bframes is not None:
            stream.max_b_frames = bframes
            stream.options = {**stream.options, "b-adapt": "0"} if codec == "libx264" else stream.options
        if sar is not None:
            stream.codec_context.sample_aspect_ratio = sar
        if matrix is not None:
            stream.set_display_matrix(matrix)
        sound = tone(length, rate=audio_rate) if isinstance(audio, str) else audio
        track = _add_audio(output, path, audio_codec, audio_rate) if sound is not None else None
        writing = _write_sound(output, track, sound, audio_rate, audio_start) if track is not None and sound is not None else iter(())
        heard = float("-inf")
        for index, moment in enumerate(moments):
            image = painter(moment, index) if painter else numbered(index, size)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round((start + moment) / frame.time_base)
            output.mux(stream.encode(frame))
            while heard < start + moment:
                heard = next(writing, float("inf"))
        output.mux(stream.encode(None))
        for _ in writing:
            pass
    return path


def make_audio(path: Path, sound: Sound, *, rate: int = 48000, codec: str | None = None) -> Path:
    """Write an audio-only file."""
    with av.open(str(path), "w") as output:
        for _ in _write_sound(output, _add_audio(output, path, codec, rate), sound, rate, 0.0):
            pass
    return path


def display_matrix(a: int, b: int, c: int, d: int) -> list[int]:
    """The display matrix that maps a stored pixel (x, y) to (a x + c y, b x + d y) on screen, in FFmpeg's fixed point."""
    return [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]


def _add_audio(output: OutputContainer, path: Path, codec: str | None, rate: int) -> AudioStream:
    track = output.add_stream(codec or _AUDIO_CODECS.get(path.suffix, "aac"), rate=rate)
    assert isinstance(track, AudioStream)
    track.codec_context.layout = "mono"
    return track


def _write_sound(output: OutputContainer, track: AudioStream, sound: Sound, rate: int, start: float) -> Iterator[float]:
    """Write the sound piece by piece, so that it can be interleaved with the picture; yields the time reached."""
    for at in range(0, len(sound), 1024):
        piece: Any = np.ascontiguousarray(sound[None, at : at + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at + round(start * rate)
        output.mux(track.encode(frame))
        yield start + at / rate
    output.mux(track.encode(None))


def with_sound_first(path: Path) -> Path:
    """Change the order of a file's streams, as many programs write them."""
    plain = path.rename(path.with_stem("picture-first"))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        new = {stream.index: output.add_stream_from_template(stream) for stream in (*source.streams.audio, *source.streams.video)}
        for packet in source.demux():
            if packet.size:
                packet.stream = new[packet.stream_index]
                output.mux(packet)
    return path


def with_broken_packets(source: Path, target: Path) -> Path:
    """A copy of a file in which three packets of each stream, in its middle, cannot be decoded."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux() if packet.size and packet.pos is not None]
    for index in {packet.stream_index for packet in packets}:
        own = [packet for packet in packets if packet.stream_index == index]
        for packet in own[len(own) // 2 :][:3]:
            assert packet.pos is not None
            data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    target.write_bytes(data)
    return target
