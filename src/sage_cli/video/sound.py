"""The audio of a video, resampled, with every sample at its time on the video's clock."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from threading import Event
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame, format_dtypes
from av.audio.plane import AudioPlane
from av.packet import Packet
from numpy.typing import NDArray

from sage_cli.errors import VideoError
from sage_cli.video.media import AudioTrack, Media
from sage_cli.video.source import MediaFile, frame_time, packet_time, time_base

log = logging.getLogger(__name__)

# Decoding starts this many seconds early: overlapping transforms and bit reservoirs need earlier packets.
_RUN_UP = Fraction(1)

# Times before this many seconds are reached by reading from the start: how far a seek goes astray grows with the time.
_NEAR = Fraction(5)

# Codecs that store differences alone, packet after packet: where decoding begins later, all of the sound is shifted and may be clipped.
_DIFFERENCES = {"adpcm_yamaha", "adpcm_ima_oki"}

# Audio counts as continuous while timestamps match the sample count within this many seconds: more than a container's rounding,
# less than the shortest packet (Opus, 20 ms), whose loss is a gap.
_TOLERANCE = Fraction(1, 100)

# Most channels given to FFmpeg's resampler, which has no layouts for more.
_MOST_CHANNELS = 8

_SOUND_FIELD = "ambisonic"  # what FFmpeg calls layouts of directions instead of loudspeakers: 360° videos have them

# The share of power below which channels count as silent: the mean of two against the first one, or one of many against the loudest.
_CANCELLED = 0.01
_AUDIBLE = 1e-6  # power of a sample
_ENOUGH, _LONG_ENOUGH = 10, 120  # seconds of sound, and of the file, that are listened to

_EXACT = Fraction(1, 1_000_000)  # of times that are counted

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

    for time, frame in _decoded(media, track, start, stop):
        channels = frame.layout.nb_channels
        if channels > _MOST_CHANNELS or (layout == "mono" and channels == 2) or (channels > 2 and _without_places(frame)):
            frame = _mixed(frame, _weights(media, track, frame, stop))
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


def _without_places(frame: AudioFrame) -> bool:
    """Whether the channels are no loudspeakers that FFmpeg's resampler knows: microphones of a recorder, or a sound field.

    Where the file says nothing, the resampler would take the third of three or the fourth of six for a subwoofer, and leave it out.
    """
    name = frame.layout.name
    return name == f"{frame.layout.nb_channels} channels" or name.startswith(_SOUND_FIELD)


def _mixed(frame: AudioFrame, weights: NDArray[np.float32]) -> AudioFrame:
    """The weighted sum of all channels.

    FFmpeg's resampler adds the channels of stereo up to 1.41 times the range of floating-point samples, which would clip loud ones.
    """
    mono = (weights @ _samples(frame).astype(np.float32))[None]
    mixed = AudioFrame.from_ndarray(np.ascontiguousarray(mono), format="fltp", layout="mono")
    mixed.sample_rate, mixed.time_base, mixed.pts = frame.sample_rate, frame.time_base, frame.pts
    return mixed


def _samples(frame: AudioFrame) -> NDArray[Any]:
    """``(channels, n)``, floating point from -1 to 1."""
    channels = frame.layout.nb_channels
    if frame.format.is_planar:
        # Neither to_ndarray() nor planes: PyAV counts planes up to a null pointer, which FFmpeg writes behind fewer than eight only.
        dtype = np.dtype(format_dtypes[frame.format.name])
        samples = np.stack([np.frombuffer(bytes(AudioPlane(frame, number)), dtype, frame.samples) for number in range(channels)])
    else:
        samples = frame.to_ndarray().reshape(-1, channels).T
    if samples.dtype.kind == "f":
        return samples
    unsigned = samples.dtype == np.uint8
    return (samples.astype(np.float32) - (128 if unsigned else 0)) / (128 if unsigned else -float(np.iinfo(samples.dtype).min))


def _weights(media: Media, track: AudioTrack, like: AudioFrame, stop: Event | None) -> NDArray[np.float32]:
    """What each channel counts in mono, in frames that have as many as ``like``.

    It is their mean, with three exceptions. Of a sound field only the first is taken, which hears all directions; and of two channels whose
    mean is almost silent though they are not, as where a cable is wired the wrong way. And channels without sound make the others no
    quieter: of 16, a single one may have all the speech.

    That is so for a whole file or not at all: the beginning decides. Deciding again and again would switch in the middle of words.
    """
    channels = like.layout.nb_channels
    if like.layout.name.startswith(_SOUND_FIELD):
        return np.asarray(np.arange(channels) == 0, np.float32)
    known = media.mixes.get((track.index, channels))
    if known is None:
        powers, mean = np.zeros(channels), 0.0
        heard = passed = Fraction(0)
        with closing(_decoded(media, track, Fraction(0), stop)) as decoded:
            for _, frame in decoded:
                if frame.layout.nb_channels != channels:
                    break
                samples = np.nan_to_num(_samples(frame).clip(-1, 1)).astype(np.float64)
                power = (samples**2).sum(axis=1)
                powers, mean = powers + power, mean + float((samples.mean(axis=0) ** 2).sum())
                length = Fraction(frame.samples, frame.sample_rate)
                heard, passed = heard + (length if power.max() > _AUDIBLE * frame.samples else 0), passed + length
                if heard >= _ENOUGH or passed >= _LONG_ENOUGH:
                    break
        if channels == 2:
            known = np.array([1, 0] if mean < _CANCELLED * powers[0] else [0.5, 0.5], np.float32)
        else:
            active = int((powers > _CANCELLED * powers.max()).sum()) or channels
            known = np.full(channels, 1 / active, np.float32)
        media.mixes[track.index, channels] = known
    return known


def _decoded(media: Media, track: AudioTrack, start: Fraction, stop: Event | None) -> Generator[tuple[Fraction | None, AudioFrame]]:
    """Decoded frames with their times on the video's clock, from some time before ``start`` on, without damaged packets."""
    begin = start - _RUN_UP
    jumps = begin > _NEAR and not (track.codec in _DIFFERENCES or track.codec.endswith("_dpcm"))
    if jumps and not (media.shifts or track.frame):
        with media.open(stop) as file:
            if _land(file, media, track, begin):
                yield from _frames(file, media, track, start)
                return
    with media.open(stop) as file:
        yield from _frames(file, media, track, start, begin if jumps or media.shifts or track.frame else None)


def _counted(packets: Iterator[Packet[Any]], frame: Fraction) -> Iterator[Packet[Any]]:
    """The packets from the first one on, at times that count them, if each is a frame of that many seconds."""
    first: Fraction | None = None
    for number, packet in enumerate(packets):
        if frame and packet.size:
            first = (packet_time(packet) or Fraction(0)) if first is None else first
            packet.time_base = _EXACT
            packet.pts = packet.dts = round((first + number * frame) / _EXACT)
        yield packet


def _land(file: MediaFile, media: Media, track: AudioTrack, begin: Fraction) -> bool:
    """Seek to just before ``begin``; False if the demuxer cannot, lands after it, or does not know where it landed."""
    stamp, places = int((begin + media.origin) / time_base(file.stream(track.index))), media.places.get(track.index)
    time = None
    try:
        file.seek(stamp, track.index)
        for packet in file.packets(track.index):
            if places is not None and places.contradict(packet):
                return False
            with suppress(av.FFmpegError, ValueError):  # a seek may end inside a frame
                time = next((frame_time(frame) for frame in packet.decode() if frame.pts is not None), None)
            if time is not None:
                break
        if time is None or time - media.origin > begin + _RUN_UP / 2:
            return False
        file.seek(stamp, track.index)
    except av.FFmpegError:
        return False
    return True


def _frames(
    file: MediaFile, media: Media, track: AudioTrack, start: Fraction, begin: Fraction | None = None
) -> Iterator[tuple[Fraction | None, AudioFrame]]:
    """Decoded frames from the current position, or from ``begin`` on. Damage before ``start`` takes nothing away, and is not told.

    Nor is that of the last packet, which the end of the file may cut.

    Raises:
        VideoError: everything is damaged.
    """
    decoded = damaged = missed = last = 0
    try:
        for packet in _counted(file.packets(track.index), track.frame):
            time = packet_time(packet)
            if begin is not None and packet.size and time is not None and time - media.origin < begin:
                continue
            try:
                frames = cast("list[AudioFrame]", packet.decode())
            except (av.FFmpegError, ValueError) as error:
                damaged += 1
                last = int(time is None or time + (packet.duration or 0) * time_base(packet) - media.origin > start)
                missed += last
                log.debug("%s: damaged packet at %s: %s", media.path.name, packet.pts, error)
                continue
            last = 0 if packet.size else last
            decoded += bool(frames)
            for frame in frames:
                yield None if frame.pts is None else frame_time(frame) - media.origin, frame
        missed -= last
    finally:
        if missed:
            log.warning("%s: skipped %d damaged packets of sound", media.path.name, missed)
            media.damaged("audio")
    if damaged and not decoded:
        raise VideoError(f"nothing of the sound of {media.name} can be decoded ({track.codec}): the file is damaged; export it again")
