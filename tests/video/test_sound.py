"""Sound: every part of it is the part that was asked for, and loud enough."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from sage_cli.video import Video
from tests.media import Sound, make_audio, tone, with_broken_packets

RATE = 16000


def steps(seconds: int, rate: int) -> Sound:
    """Another tone in each second: 300 Hz, 350 Hz, 400 Hz..."""
    hertz = np.repeat(300 + 50 * np.arange(seconds), rate)
    return np.asarray(0.5 * np.sin(2 * np.pi * np.cumsum(hertz) / rate), np.float32)


def seconds_heard(sound: Sound) -> int:
    """The second of :func:`steps` that the sound is from."""
    return round((float(np.argmax(np.abs(np.fft.rfft(sound)))) * RATE / len(sound) - 300) / 50)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        *((".wav", codec) for codec in ("adpcm_ms", "adpcm_ima_wav", "adpcm_yamaha", "g722", "pcm_s16le")),
        *((".w64", codec) for codec in ("adpcm_ms", "pcm_s16le")),
        (".avi", "adpcm_ima_wav"),
    ],
)
def test_a_part_is_where_it_is_in_the_whole(suffix: str, codec: str, tmp_path: Path) -> None:
    """Byte rates in headers are not the real ones for some codecs, and demuxers seek by them."""
    video = Video(make_audio(tmp_path / f"recorder{suffix}", steps(40, RATE), rate=RATE, codec=codec))
    for second in (1, 3, 7, 19, 33):
        assert seconds_heard(video.audio(second + 0.2, second + 0.8)) == second


@pytest.mark.parametrize("rate", [0, 3000, 12000])
def test_sound_of_avi_whose_byte_rate_is_wrong(rate: int, tmp_path: Path) -> None:
    """Of a variable rate it is a mean, and a recording that was broken off has none."""
    path = make_audio(tmp_path / "captured.avi", steps(20, 48000), codec="libmp3lame")
    data = bytearray(path.read_bytes())
    head, form = data.index(b"auds"), data.index(b"strf") + 8
    data[head + 20 : head + 28] = (1).to_bytes(4, "little") + rate.to_bytes(4, "little")  # bytes in so many seconds
    data[head + 44 : head + 48] = (1).to_bytes(4, "little")  # in a sample
    data[form + 8 : form + 14] = rate.to_bytes(4, "little") + (1).to_bytes(2, "little")
    path.write_bytes(data)
    video = Video(path)
    assert video.duration == pytest.approx(20, abs=0.1)
    for second in (1, 7, 13, 18):
        assert seconds_heard(video.audio(second + 0.2, second + 0.8)) == second


@pytest.mark.parametrize(("suffix", "codec"), [(".mpg", "mp2"), (".vob", "ac3")])
def test_what_a_seek_cuts_is_no_damage(suffix: str, codec: str, tmp_path: Path) -> None:
    """MPEG-PS: a seek ends within a frame."""
    video = Video(make_audio(tmp_path / f"tape{suffix}", steps(40, 48000), codec=codec))
    for second in (9, 19, 33):
        assert seconds_heard(video.audio(second + 0.2, second + 0.8)) == second
    assert video.notices == ()


def test_damage_is_told_where_it_is_heard(tmp_path: Path) -> None:
    path = with_broken_packets(make_audio(tmp_path / "whole.m4a", tone(20.0)), tmp_path / "a.m4a")  # at 10 s
    video = Video(path)
    for start in (2, 10.5, 15):
        video.audio(start, start + 1)
        assert video.notices == ()
    video.audio(9.5, 11)
    assert [notice.part for notice in video.notices] == ["audio"]


def many_channels(path: Path, channels: Sequence[Sound]) -> Video:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.stack(channels, axis=1) * 32767).astype("<i2").tobytes())
    return Video(path)


@pytest.mark.parametrize("channels", [3, 4, 6, 8, 9, 16, 40])
def test_one_voice_among_many_channels_is_as_loud_as_alone(channels: int, tmp_path: Path) -> None:
    """Where the file names no loudspeakers, none is a subwoofer."""
    voice, noise = steps(3, RATE), np.zeros(3 * RATE, np.float32)
    for place in range(channels) if channels < 9 else (0, channels - 1):
        video = many_channels(tmp_path / f"{place}.wav", [voice if number == place else noise for number in range(channels)])
        assert np.abs(video.audio()).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("channels", [7, 8, 9, 16, 24])
def test_channels_that_are_decoded_each_by_itself(channels: int, tmp_path: Path) -> None:
    sound = np.zeros((3 * RATE, channels), np.float32)
    sound[:, channels - 1] = steps(3, RATE)
    video = laid_out(tmp_path / "many.mka", "libopus", sound.reshape(1, -1), f"{channels} channels", mapping_family="255")
    assert np.abs(video.audio()).max() == pytest.approx(0.5, abs=0.1)


def test_loudspeakers_that_the_file_names_are_mixed_as_such(tmp_path: Path) -> None:
    speakers = np.zeros((3 * RATE, 6), np.float32)
    speakers[:, 2] = steps(3, RATE)  # the center
    speakers[:, 3] = np.random.default_rng(1).standard_normal(3 * RATE).clip(-1, 1)  # the subwoofer
    video = laid_out(tmp_path / "film.wav", "pcm_f32le", speakers.reshape(1, -1), "5.1")
    assert np.abs(video.audio()).max() == pytest.approx(0.5, abs=0.02)


def test_the_middle_of_a_sound_field_is_heard(tmp_path: Path) -> None:
    """The sound of a 360 degree video: its first channel hears all directions."""
    field = np.stack([steps(3, RATE), -steps(3, RATE), *np.zeros((2, 3 * RATE), np.float32)], axis=1)
    video = laid_out(tmp_path / "field.mka", "libopus", field.reshape(1, -1), "ambisonic 1", mapping_family="2")
    assert np.abs(video.audio()).max() > 0.4


def laid_out(path: Path, codec: str, samples: Sound, layout: str, **options: str) -> Video:
    """A file of interleaved samples whose channels have places."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=RATE, layout=layout, options=options)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return Video(path)


def test_a_voice_that_begins_late_is_heard(tmp_path: Path) -> None:
    early, late = steps(30, RATE), np.zeros(30 * RATE, np.float32)
    late[20 * RATE :], early[20 * RATE :] = early[20 * RATE :].copy(), 0
    video = many_channels(tmp_path / "turns.wav", [early, late, *[np.zeros_like(early)] * 10])
    assert np.abs(video.audio(5, 6)).max() == pytest.approx(0.5, abs=0.02)
    assert np.abs(video.audio(25, 26)).max() == pytest.approx(0.5, abs=0.02)


def test_all_channels_at_once_are_not_clipped(tmp_path: Path) -> None:
    video = many_channels(tmp_path / "array.wav", [steps(3, RATE)] * 16)
    assert np.abs(video.audio()).max() == pytest.approx(0.5, abs=0.02)
