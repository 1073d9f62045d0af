"""The audio of a video, resampled, with every sample at its time on the video's clock."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from threading import Event
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from sage_cli.errors import VideoError
from sage_cli.video.probe import AudioTrack, Media
from sage_cli.video.source import MediaFile, frame_time, packet_time, time_base

log = logging.getLogger(__name__)

# Decoding starts this many seconds early: overlapping transforms and bit reservoirs need earlier packets.
_RUN_UP = Fraction(1)

# Audio counts as continuous while timestamps match the sample count within this many seconds: more than a container's rounding,
# less than the shortest packet (Opus, 20 ms), whose loss is a gap.
_TOLERANCE = Fraction(1, 100)

# Most channels given to FFmpeg's resampler, which has no layouts for more.
_MOST_CHANNELS = 8

# Channels cancel each other out where their mean has less than this share of the first one's power.
_CANCELLED = 0.01
_AUDIBLE = 1e-6  # power of a sample
_ENOUGH, _LONG_ENOUGH = 10, 120  # seconds of sound, and of the file, that are listened to

_MAX_SILENCE = 1 << 16  # samples in one piece


def sound(
    media: Media, track: AudioTrack, start: float, end: float, *, rate: int, layout: str, stop: Event | None = None
) -> Iterator[NDArray[np.float32]]:
    """Consecutive pieces ``(channels, n)`` that together are exactly ``[start, end)``: silence where the stream has no samples."""
    cursor, last = round(start * rate), round(end * rate)
    channels = 1 if layout == "mono" else 2
    for at, piece in _placed(media, track, Fraction(start), rate, layout, stop):
        yield from _silence(channels, min(at, last) - cursor)
        cursor = max(cursor, min(at, last))
        piece = piece[:, cursor - at : last - at] if at <= cursor else piece[:, :0]
        if piece.shape[1]:
            yield piece
            cursor += piece.shape[1]
        if cursor >= last:
            return
    yield from _silence(channels, last - cursor)


def blocks(pieces: Iterator[NDArray[np.float32]], length: int) -> Iterator[NDArray[np.float32]]:
    """The same samples in pieces of ``length``, only the last one shorter."""
    held: list[NDArray[np.float32]] = []
    missing = length
    for piece in pieces:
        while piece.shape[-1] >= missing:
            yield np.concatenate([*held, piece[..., :missing]], axis=-1)
            held, piece, missing = [], piece[..., missing:], length
        if piece.shape[-1]:
            held.append(piece)
            missing -= piece.shape[-1]
    if held:
        yield np.concatenate(held, axis=-1)


def _silence(channels: int, samples: int) -> Iterator[NDArray[np.float32]]:
    while samples > 0:
        yield np.zeros((channels, min(samples, _MAX_SILENCE)), np.float32)
        samples -= _MAX_SILENCE


def _placed(
    media: Media, track: AudioTrack, start: Fraction, rate: int, layout: str, stop: Event | None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Resampled pieces, each with the index of its first sample on the video's clock, from just before ``start`` to the end of the file.

    A run is audio without gaps. It starts at its first timestamp; the rest is placed by counting samples.
    """
    resampler: av.AudioResampler | None = None
    shape: tuple[int, str, str] | None = None
    run, consumed, place = Fraction(0), 0, 0

    def resampled(frame: AudioFrame | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        nonlocal place
        for output in resampler.resample(frame) if resampler is not None else ():
            samples = cast("NDArray[np.float32]", output.to_ndarray())
            # Floating-point audio may hold anything: a flipped bit makes NaN, infinity, or a bang of 1e38.
            yield place, np.clip(np.nan_to_num(samples, nan=0.0), -1.0, 1.0)
            place += output.samples

    opposed = layout == "mono" and track.channels == 2 and _opposed(media, track, stop)
    for time, frame in _decoded(media, track, start, stop):
        channels = frame.layout.nb_channels
        if channels > _MOST_CHANNELS or (layout == "mono" and channels == 2):
            frame = _mixed(frame, opposed=channels == 2 and opposed)
        expected = run + Fraction(consumed, frame.sample_rate)
        now = (frame.sample_rate, frame.format.name, frame.layout.name)
        if resampler is None or now != shape or (time is not None and abs(time - expected) > _TOLERANCE):
            yield from resampled(None)
            run, consumed, shape = time if time is not None else expected, 0, now
            place = round(run * rate)
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        consumed += frame.samples
        frame.pts = None  # the resampler must count samples, not correct timestamps
        yield from resampled(frame)
    yield from resampled(None)


def _mixed(frame: AudioFrame, *, opposed: bool) -> AudioFrame:
    """The mean of all channels, or the first one alone if they are ``opposed``.

    FFmpeg's resampler adds the channels of stereo up to 1.41 times the range of floating-point samples, which would clip loud ones.
    """
    samples = _samples(frame)
    mono = samples[:1].astype(np.float32) if opposed else samples.mean(axis=0, dtype=np.float32, keepdims=True)
    mixed = AudioFrame.from_ndarray(np.ascontiguousarray(mono), format="fltp", layout="mono")
    mixed.sample_rate, mixed.time_base, mixed.pts = frame.sample_rate, frame.time_base, frame.pts
    return mixed


def _samples(frame: AudioFrame) -> NDArray[Any]:
    """``(channels, n)``, floating point from -1 to 1."""
    samples = frame.to_ndarray()
    samples = samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return samples
    unsigned = samples.dtype == np.uint8
    return (samples.astype(np.float32) - (128 if unsigned else 0)) / (128 if unsigned else -float(np.iinfo(samples.dtype).min))


def _opposed(media: Media, track: AudioTrack, stop: Event | None) -> bool:
    """Whether the mean of two channels is almost silent and they are not, as where a cable is wired the wrong way.

    That is so for a whole file or not at all: the beginning decides. Deciding again and again would switch in the middle of words.
    """
    if track.index not in media.opposed:
        mean = first = 0.0
        heard = passed = Fraction(0)
        with closing(_decoded(media, track, Fraction(0), stop)) as decoded:
            for _, frame in decoded:
                if frame.layout.nb_channels != 2:
                    break
                samples = np.nan_to_num(_samples(frame).clip(-1, 1)).astype(np.float64)
                power = float((samples[0] ** 2).sum())
                first, mean = first + power, mean + float((samples.mean(axis=0) ** 2).sum())
                length = Fraction(frame.samples, frame.sample_rate)
                heard, passed = heard + (length if power > _AUDIBLE * frame.samples else 0), passed + length
                if heard >= _ENOUGH or passed >= _LONG_ENOUGH:
                    break
        media.opposed[track.index] = mean < _CANCELLED * first
    return media.opposed[track.index]


def _decoded(media: Media, track: AudioTrack, start: Fraction, stop: Event | None) -> Generator[tuple[Fraction | None, AudioFrame]]:
    """Decoded frames with their times on the video's clock, without damaged packets."""
    begin = start - _RUN_UP
    with closing(media.open(stop)) as file:
        if begin > 0 and not media.shifts and _land(file, media, track, begin):
            yield from _frames(file, media, track)
            return
    with closing(media.open(stop)) as file:
        yield from _frames(file, media, track, begin if media.shifts else None)


def _land(file: MediaFile, media: Media, track: AudioTrack, begin: Fraction) -> bool:
    """Seek to just before ``begin``; False if the demuxer cannot, or lands after it."""
    stamp = int((begin + media.origin) / time_base(file.stream(track.index)))
    try:
        file.seek(stamp, track.index)
        time = next((time for time, _ in _frames(file, media, track)), None)
        if time is None or time > begin + _RUN_UP / 2:
            return False
        file.seek(stamp, track.index)
    except av.FFmpegError:
        return False
    return True


def _frames(
    file: MediaFile, media: Media, track: AudioTrack, begin: Fraction | None = None
) -> Iterator[tuple[Fraction | None, AudioFrame]]:
    """Decoded frames from the current position, or from ``begin`` on.

    Raises:
        VideoError: everything is damaged.
    """
    decoded = damaged = 0
    try:
        for packet in file.packets(track.index):
            if begin is not None and packet.size and (time := packet_time(packet)) is not None and time - media.origin < begin:
                continue
            try:
                frames = cast("list[AudioFrame]", packet.decode())
            except (av.FFmpegError, ValueError) as error:
                damaged += 1
                log.debug("%s: damaged packet at %s: %s", media.path.name, packet.pts, error)
                continue
            decoded += bool(frames)
            for frame in frames:
                yield None if frame.pts is None else frame_time(frame) - media.origin, frame
    finally:
        if damaged:
            log.warning("%s: skipped %d damaged packets of sound", media.path.name, damaged)
            media.damaged("audio")
    if damaged and not decoded:
        raise VideoError(f"nothing of the sound of {media.name} can be decoded ({track.codec}): the file is damaged; export it again")
