"""Properties of files, audio and clips."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sage_cli.errors import UsageError, VideoError
from sage_cli.video import SAMPLE_RATE, NoAudioError, Video
from tests.media import Sound, corners, display_matrix, make_audio, make_video, read_number, tone

SIZE = (64, 48)


def noise(seconds: float) -> Sound:
    """Smooth noise at 48 kHz: like nothing else but itself, so that a shift by one sample shows."""
    window = np.hanning(96)
    raw = np.random.default_rng(7).standard_normal(round(seconds * 48000))
    return np.convolve(raw, window / window.sum() * 1.5, "same").astype(np.float32)


def shift(heard: Sound, expected: Sound, most: int = 600) -> int:
    """Samples by which ``heard`` lags behind ``expected``; they have to agree there."""
    middle = expected[most:-most]
    lag = max(range(-most, most + 1), key=lambda lag: float(heard[most + lag : len(heard) - most + lag] @ middle))
    assert np.corrcoef(heard[most + lag : len(heard) - most + lag], middle)[0, 1] > 0.97
    return lag


# ---- what it is ----------------------------------------------------------------------------------------------------


def test_a_video_tells_what_it_is(clip_path: Path, silent_path: Path) -> None:
    video = Video(str(clip_path))
    assert video.path == clip_path
    assert (video.width, video.height, video.rotation, video.fps) == (160, 120, 0, 25.0)
    assert (video.video_codec, video.audio_codec) == ("h264", "aac")
    assert video.has_video
    assert video.has_audio
    assert video.duration == pytest.approx(4.0, abs=0.001)
    silent = Video(silent_path)
    assert (silent.has_audio, silent.audio_codec, silent.duration) == (False, None, 2.0)


@pytest.mark.parametrize(
    ("name", "codec", "names"),
    [
        ("a.webm", "libvpx-vp9", ("vp9", "opus")),
        ("a.mkv", "libx265", ("hevc", "aac")),
        ("a.avi", "mpeg4", ("mpeg4", "mp3")),
        ("a.ts", "libx264", ("h264", "aac")),
        ("a.flv", "libx264", ("h264", "aac")),
    ],
)
def test_containers(name: str, codec: str, names: tuple[str, str], tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / name, seconds=3, size=SIZE, codec=codec, audio="tone"))
    assert (video.video_codec, video.audio_codec) == names
    assert video.duration == pytest.approx(3.0, abs=0.06)
    assert video.fps == 25


@pytest.mark.parametrize(
    ("name", "options", "first", "duration"),
    [
        ("plain.mp4", {"audio": "tone"}, 0.0, 2.0),
        ("late picture.mp4", {"audio": "tone", "start": 1.5}, 1.5, 3.5),
        ("late sound.mp4", {"audio": "tone", "audio_start": 1.5}, 0.0, 3.5),
        ("all late.mkv", {"start": 1.5}, 0.0, 2.0),
        ("both late.mkv", {"audio": "tone", "start": 5.0, "audio_start": 4.0}, 1.0, 3.0),
        ("priming.mkv", {"audio": "tone"}, 0.0, 2.0),
        ("cut.mp4", {"start": -0.4, "container_options": {"avoid_negative_ts": "disabled"}}, 0.0, 1.6),
    ],
)
def test_the_clock_starts_with_the_first_frame_or_sound(
    name: str, options: dict[str, object], first: float, duration: float, tmp_path: Path
) -> None:
    video = Video(make_video(tmp_path / name, seconds=2, size=SIZE, **options))  # type: ignore[arg-type]
    assert next(video.frames([0.0])).time == pytest.approx(first, abs=0.025)  # AAC in Matroska may start a packet early
    assert video.duration == pytest.approx(duration, abs=0.06)


def test_messages_call_it_as_the_user_does(silent_path: Path) -> None:
    path, link = str(silent_path), "http://a.b/c_1.mp4"
    for name, called, stem in ("-", "stdin", "stdin"), (link, link, "c_1"), (None, path, silent_path.stem):
        video = Video(silent_path, name=name)
        assert (video.stem, video.copied) == (stem, name is not None)
        with pytest.raises(NoAudioError, match=f"^{called} has no sound"):
            video.audio()


def test_identity_is_of_the_content(clip_path: Path, tmp_path: Path) -> None:
    renamed, edited = tmp_path / "other.mp4", tmp_path / "clip.mp4"
    data = bytearray(clip_path.read_bytes())
    renamed.write_bytes(data)
    data[-10] ^= 1
    edited.write_bytes(data)
    assert Video(renamed).id == Video(clip_path).id != Video(edited).id


def patched(path: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """A copy with bytes overwritten, ``offset`` after the first occurrence of ``mark``."""
    data = bytearray(path.read_bytes())
    at = data.index(mark) + offset
    data[at : at + len(value)] = value
    copy = path.with_name("patched" + path.suffix)
    copy.write_bytes(data)
    return copy


def test_a_title_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    path = make_video(tmp_path / "title.mkv", seconds=1, size=SIZE)
    assert Video(patched(path, b"Lavf", 0, b"\xe4\xf6\xfc\xff")).duration == 1


@pytest.mark.parametrize("claim", [0.5, 3600.0])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_header_that_lies_about_the_duration_is_not_believed(claim: float, suffix: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / f"true{suffix}", seconds=4, size=SIZE, audio="tone")
    if suffix == ".mp4":
        liar = patched(path, b"mvhd", 20, struct.pack(">I", round(claim * 1000)))
    else:
        liar = patched(path, b"\x44\x89\x88", 3, struct.pack(">d", claim * 1000))
    video = Video(liar)
    assert video.duration == pytest.approx(4.0, abs=0.03)
    assert read_number(next(video.frames([3.9])).image) == 97


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("live.webm", {"codec": "libvpx-vp9", "container_options": {"live": "1"}}),
        ("bare.h264", {"bframes": 2}),
        ("fast.mp4", {"container_options": {"movflags": "faststart"}}),
        ("part.mkv", {}),
        ("part.ts", {}),
    ],
)
def test_a_missing_duration_is_measured(name: str, options: dict[str, object], tmp_path: Path) -> None:
    path = make_video(tmp_path / name, seconds=8, size=SIZE, **options)  # type: ignore[arg-type]
    expected = 8.0
    if name.startswith(("part", "fast")):  # a download that broke off
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 3 // 4])
        expected = 5.0
    video = Video(path)
    assert video.duration == pytest.approx(expected, abs=0.01 if expected == 8 else 2)
    last = next(video.frames([video.duration]))
    assert last.time == pytest.approx(video.duration, abs=0.4)  # the packets before a break may want what was lost
    assert read_number(last.image) == round(last.time * 25)


@pytest.mark.parametrize(
    ("name", "fps", "options"),
    [
        ("bare.h264", 50, {"codec_options": {"x264-params": "force-cfr=1"}}),
        ("bare.h264", 12, {"codec_options": {"x264-params": "force-cfr=1"}}),  # FFmpeg guesses 24
        ("bare.m2v", 50, {"codec": "mpeg2video"}),
        ("bare.m4v", Fraction(30000, 1001), {"codec": "mpeg4"}),  # the codec's rate is that of its clock
    ],
)
def test_a_bare_stream_has_the_rate_that_it_names(tmp_path: Path, name: str, fps: int | Fraction, options: dict[str, Any]) -> None:
    video = Video(make_video(tmp_path / name, seconds=2, fps=fps, size=SIZE, **options))
    assert video.fps == float(fps)
    assert video.duration == pytest.approx(2.0, abs=0.03)
    assert read_number(next(video.frames([1.0])).image) == int(fps)


# ---- what it is not ------------------------------------------------------------------------------------------------


def empty_mkv(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()


def cut_off(path: Path) -> None:
    make_video(path, seconds=1, size=SIZE)
    path.write_bytes(path.read_bytes()[:-1500])


def undecodable(path: Path) -> None:
    make_video(path, seconds=1, size=SIZE, bframes=0)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.pos is not None]
    data = bytearray(path.read_bytes())
    for position, size in places:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "does not exist; check the path"),
        (lambda path: path.mkdir(), "is a directory; give a video file"),
        (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
        (lambda path: path.write_text("It was a dark night.\n" * 50), "cannot be read as video"),
        (lambda path: path.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n"), "not a single frame or sound"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(100_000)), "cannot be read as video"),
        (lambda path: path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"), "is a playlist"),
        (cut_off, "cannot be read as video"),
        (empty_mkv, "not a single frame or sound"),
        (undecodable, r"nothing of .* can be decoded: the picture .*\(h264"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    make(path)
    with pytest.raises(VideoError, match=said) as caught:
        Video(path)
    assert "broken.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.srt", "a.VTT", "a.ttml"])
def test_subtitles_are_no_video(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("WEBVTT\n\n00:00:01,000 --> 00:00:02,000\nHello\n")
    with pytest.raises(VideoError, match="is a subtitle file: give the video or recording it belongs to"):
        Video(path)


def test_a_sound_file_opens_without_a_picture(tmp_path: Path) -> None:
    video = Video(make_audio(tmp_path / "speech.wav", tone(2.0)))
    assert (video.has_video, video.has_audio, video.audio_codec, video.duration) == (False, True, "pcm_s16le", 2.0)
    assert (video.width, video.height, video.fps, video.video_codec) == (0, 0, None, None)
    assert len(video.audio()) == 2 * SAMPLE_RATE


def test_the_cover_of_a_recording_is_no_picture(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "podcast.mp3", tone(2.0))
    (cover,) = Video(make_video(tmp_path / "clip.mp4", seconds=1)).frames([0.0])
    picture = b"\0image/jpeg\0\3\0" + cover.jpeg(90)  # the front cover, without a description
    tag = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + tag + path.read_bytes())
    with av.open(str(path)) as file:
        assert len(file.streams.video) == 1
    video = Video(path)
    assert (video.has_video, video.has_audio) == (False, True)
    with pytest.raises(VideoError, match="has sound but no picture, and this needs one: give a video file"):
        video.require_picture()


# ---- sound ---------------------------------------------------------------------------------------------------------


def test_frames_per_second_of_a_recording_without_a_rate(tmp_path: Path) -> None:
    """Browsers write none, and their times are irregular: FFmpeg takes the tick of the clock for it."""
    times = np.cumsum([0, *(37, 52, 41, 66, 39) * 12]) / 1000  # 47 ms on average
    path = make_video(tmp_path / "browser.webm", codec="libvpx", times=list(times), size=(32, 32), container_options={"live": "1"})
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # its default duration, of which nothing is made
    size = 2 + (data[at + 3] & 0x7F)
    path.write_bytes(data[:at] + bytes([0xEC, 0x80 | size]) + bytes(size) + data[at + 2 + size :])
    assert Video(path).fps == pytest.approx(1000 / 47, abs=1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.mkv", {}),
        ("b.mkv", {"audio_codec": "flac"}),
        ("late.mp4", {"audio_start": 1.5}),
        ("late picture.mp4", {"start": 1.5}),
        ("44k.mp4", {"audio_rate": 44100}),
    ],
)
def test_every_sample_is_in_its_place(name: str, options: dict[str, object], tmp_path: Path) -> None:
    original = noise(8)
    video = Video(make_video(tmp_path / name, seconds=8, size=(32, 32), fps=5, audio=original, **options))  # type: ignore[arg-type]
    start, rate = float(options.get("audio_start", 0.0)), int(options.get("audio_rate", 48000))  # type: ignore[call-overload,arg-type]
    whole = video.audio()
    assert whole.dtype == np.float32
    assert len(whole) == round(video.duration * SAMPLE_RATE)
    assert not start or np.abs(whole[: round((start - 0.03) * SAMPLE_RATE)]).max() < 1e-6
    seconds = np.arange(2 * SAMPLE_RATE, 7 * SAMPLE_RATE) / SAMPLE_RATE
    expected = np.interp(seconds * rate, np.arange(len(original)), original).astype(np.float32)
    # MP4 writes late starts in whole milliseconds, half of which is 8 samples.
    at = round(start * SAMPLE_RATE) + 2 * SAMPLE_RATE
    assert abs(shift(whole[at : at + len(expected)], expected)) <= (16 if start else 1)

    window = video.audio(start + 3.3, start + 5.8)
    assert len(window) == 2.5 * SAMPLE_RATE
    # Sought in, Matroska's timestamps are whole milliseconds too.
    assert abs(shift(window, whole[round((start + 3.3) * SAMPLE_RATE) :][: len(window)])) <= (8 if name.endswith(("webm", "mkv")) else 1)


def test_blocks_are_the_whole_in_pieces(clip_path: Path) -> None:
    video = Video(clip_path)
    blocks = list(video.audio_blocks(0.5, 3.75, seconds=1.0))
    assert [len(block) for block in blocks] == [16000, 16000, 16000, 4000]
    assert np.array_equal(np.concatenate(blocks), video.audio(0.5, 3.75))


def test_silence_stands_where_there_is_no_sound(clip_path: Path) -> None:
    video = Video(clip_path)
    past = video.audio(3.0, 7.0)
    assert len(past) == 4 * SAMPLE_RATE
    assert np.abs(past[: SAMPLE_RATE // 2]).max() > 0.4
    assert not past[SAMPLE_RATE + 800 :].any()
    assert len(video.audio(2.0, 2.0)) == len(video.audio(3.0, 2.0)) == 0


def test_gaps_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=16000, layout="mono")
        for begin in (0, 3):  # a second of sound at 0 s and at 3 s
            for part in range(10):
                frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 8192, np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 16000 * begin + 1600 * part
                output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    heard = Video(path).audio() > 0.1
    assert len(heard) == 4 * SAMPLE_RATE
    edges = np.flatnonzero(np.diff(heard.astype(int))) + 1
    assert np.abs(edges - [16000, 48000]).max() <= 2


def test_a_video_without_sound_says_so(silent_path: Path) -> None:
    video = Video(silent_path)
    with pytest.raises(NoAudioError, match="has no sound"):
        video.audio()
    with pytest.raises(NoAudioError):
        video.audio_blocks(0, 1, 1)


# ---- clips ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "codec", "kind"), [(".wav", "pcm_s16le", "s16"), (".wav", "pcm_u8", "u8"), (".mka", "aac", "fltp")])
def test_channels_in_opposite_phase_are_heard(suffix: str, codec: str, kind: str, tmp_path: Path) -> None:
    left = tone(1.0, rate=16000)
    with av.open(str(tmp_path / f"wired{suffix}"), "w") as output:
        stream = output.add_stream(codec, rate=16000, layout="stereo")
        both = np.stack([left, -left])
        if kind != "fltp":
            top, centre = (32767, 0) if kind == "s16" else (127, 128)
            both = (both.T * top + centre).round().astype(np.int16 if kind == "s16" else np.uint8).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format=kind, layout="stereo")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    heard = Video(tmp_path / f"wired{suffix}").audio(0.2, 0.8)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(left**2)), rel=0.05)


def test_the_channels_of_a_whole_file_are_opposed_or_not(tmp_path: Path) -> None:
    """No matter what a moment of it is like: here, in pauses, only the noise of the right channel is left."""
    left = tone(4.0, rate=16000) * (np.arange(64000) // 8000 % 2)
    noise = np.random.default_rng(1).normal(0, 0.01, left.size)
    both = (np.stack([left, noise - left], axis=1) * 32767).round().astype(np.int16).reshape(1, -1)
    with av.open(str(tmp_path / "wired.wav"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=16000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    video = Video(tmp_path / "wired.wav")
    assert np.abs(video.audio() - left).max() < 0.001
    assert np.abs(video.audio(1.2, 1.7) - left[19200:27200]).max() < 0.001


@pytest.mark.parametrize(("encoder", "codec"), [("libx264", "h264"), ("mpeg4", "mpeg4")])
def test_a_clip_is_cut_to_the_frame_and_to_the_sample(encoder: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_cli.video.clip._ENCODERS", (encoder,))
    original = noise(6)
    video = Video(make_video(tmp_path / "whole.mp4", seconds=6, size=(96, 72), bframes=2, gop=50, audio=original))
    target = video.clip(2.28, 4.0, tmp_path / "part.mp4")
    clip = Video(target)
    assert clip.duration == pytest.approx(1.72, abs=0.03)
    numbers = [read_number(frame.image) for frame in clip.frames([index / 25 for index in range(43)])]
    assert numbers == list(range(57, 100))
    assert next(clip.frames([99.0])).time == pytest.approx(42 / 25, abs=1e-3)
    assert (clip.video_codec, clip.audio_codec, clip.fps) == (codec, "aac", 25)
    assert abs(shift(clip.audio(0.2, 1.5), video.audio(2.48, 3.78))) <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.mp4", "whole.mp4"]


def test_a_clip_between_two_frames_begins_with_the_one_on_screen(silent_path: Path, tmp_path: Path) -> None:
    clip = Video(Video(silent_path).clip(0.99, 1.15, tmp_path / "short.mp4"))
    assert [read_number(frame.image) for frame in clip.frames([0.0, 0.02, 0.06, 0.1, 0.14])] == [24, 25, 26, 27, 28]
    assert not clip.has_audio


def test_a_clip_keeps_a_variable_rate_and_stands_upright(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.9, 1.0, 1.7, 1.75, 2.4]
    path = make_video(tmp_path / "a.mp4", times=times, size=(65 // 2 * 2, 48), matrix=display_matrix(0, 1, -1, 0))
    clip = Video(Video(path).clip(0.9, 2.0, tmp_path / "b.mp4"))
    assert (clip.width, clip.height, clip.rotation) == (48, 64, 0)
    assert [round(frame.time, 3) for frame in clip.frames([0.0, 0.1, 0.8, 0.85])] == [0.0, 0.1, 0.8, 0.85]
    picture = make_video(tmp_path / "c.mp4", seconds=1, size=SIZE, matrix=display_matrix(0, 1, -1, 0), painter=lambda _t, _i: corners(SIZE))
    before, after = Video(picture), Video(Video(picture).clip(0, 1, tmp_path / "d.mp4"))
    shown = [next(video.frames([0.5])).image.astype(int) for video in (before, after)]
    assert np.abs(shown[0] - shown[1]).mean() < 4


@pytest.mark.parametrize(("suffix", "encoder"), [(".mp4", "libx264"), (".mp4", "mpeg4"), (".mkv", "libx264"), (".ts", "libx264")])
def test_a_clip_of_slides_lasts_as_long_as_was_asked(suffix: str, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_cli.video.clip._ENCODERS", (encoder,))
    slides = Video(
        make_video(tmp_path / "slides.mp4", times=[0.0, 10.0, 20.0, 29.0], size=SIZE, audio=tone(31.0, rate=8000), audio_rate=8000)
    )
    for start, end, shown in (12.0, 19.0, [1, 1]), (0.0, 15.0, [0, 1]), (25.0, 31.0, [2, 3]):
        clip = Video(slides.clip(start, end, tmp_path / f"clip{suffix}"))
        assert clip.duration == pytest.approx(end - start, abs=0.25)
        assert [read_number(frame.image) for frame in clip.frames([0.1, end - start - 0.1], SIZE)] == shown
        with av.open(clip.path) as media:
            times = [packet.pts * packet.time_base for packet in media.demux(video=0) if packet.pts is not None]
        assert max(times) - min(times) == pytest.approx(end - start - 1, abs=0.1)  # frames last a second, the least


def test_a_clip_of_sound_alone(tmp_path: Path) -> None:
    clip = Video(Video(make_audio(tmp_path / "a.wav", tone(3.0))).clip(1, 2, tmp_path / "b.m4a"))
    assert not clip.has_video
    assert clip.duration == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("rate", "kept"), [(5000, 7350), (37800, 44100), (96000, 48000)])
def test_a_clip_of_sound_at_an_unusual_rate(rate: int, kept: int, tmp_path: Path) -> None:
    clip = Video(Video(make_audio(tmp_path / "a.wav", tone(1.0, rate=rate), rate=rate)).clip(0, 1, tmp_path / "b.mp4"))
    with av.open(clip.path) as media:
        assert media.streams.audio[0].rate == kept
    assert clip.duration == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(("start", "end"), [(2.0, 1.0), (1.0, 1.0), (50.0, 60.0)])
def test_an_empty_clip_is_refused(start: float, end: float, silent_path: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot cut an empty clip"):
        Video(silent_path).clip(start, end, tmp_path / "no.mp4")


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        (f"{'n' * 300}/clip.mp4", OSError, "File name too long"),
        ("clip.unknown", UsageError, r"cannot write the clip .*clip\.unknown: give it a suffix that is one of \.mp4"),
    ],
)
def test_a_clip_that_cannot_be_written_leaves_nothing(
    target: str, error: type[Exception], said: str, silent_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        Video(silent_path).clip(0, 1, tmp_path / target)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_never_takes_the_place_of_its_video(silent_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(silent_path.read_bytes())
    (tmp_path / "link.mp4").hardlink_to(path)
    for target in (path, tmp_path / "link.mp4"):
        with pytest.raises(UsageError, match="is the input"):
            Video(path).clip(0, 1, target)
    assert path.read_bytes() == silent_path.read_bytes()


def test_a_cut_that_is_stopped_leaves_nothing(clip_path: Path, tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []

    def tell(done: float, total: float) -> None:
        told.append((done, total))
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Video(clip_path).clip(0, 4, tmp_path / "clip.mp4", progress=tell)
    assert told[0][0] <= 0
    assert {total for _, total in told} == {4.0}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_no_error_of_the_video(clip_path: Path, tmp_path: Path) -> None:
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        Video(clip_path).clip(0, 1, tmp_path / "full.mp4")
    assert not isinstance(caught.value, VideoError)


def test_large_pictures_are_made_smaller_in_clips(tmp_path: Path) -> None:
    path = make_video(tmp_path / "large.mp4", seconds=0.2, size=(2880, 1620), codec_options={"preset": "ultrafast"})
    clip = Video(Video(path).clip(0, 0.2, tmp_path / "small.mp4"))
    assert (clip.width, clip.height) == (1920, 1080)
    assert read_number(next(clip.frames([0.1])).image) == 2
