"""Undecodable streams are reported, not treated as missing; decodable ones are used instead."""

from __future__ import annotations

import os
import wave
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from sage_cli.errors import VideoError
from sage_cli.video import NoAudioError, Video
from tests.media import make_audio, make_video, numbered, read_number, tone

SIZE = (64, 48)


def renamed(path: Path, *marks: tuple[bytes, bytes]) -> Path:
    data = path.read_bytes()
    for old, new in marks:
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def kinds(video: Video) -> list[tuple[str, str]]:
    return [(notice.part, notice.kind) for notice in video.notices]


@pytest.mark.parametrize(("suffix", "marks"), [(".mp4", [(b"mp4a", b"apac"), (b"esds", b"dapa")]), (".mkv", [(b"A_AAC", b"A_XYZ")])])
def test_sound_of_an_unknown_codec_leaves_the_picture(suffix: str, marks: list[tuple[bytes, bytes]], tmp_path: Path) -> None:
    video = Video(renamed(make_video(tmp_path / f"phone{suffix}", seconds=2, size=SIZE, audio="tone"), *marks))
    assert (video.has_video, video.has_audio) == (True, False)
    assert kinds(video) == [("audio", "no decoder")]
    assert read_number(next(video.frames([1.0])).image) == 25
    for use in (video.audio, video.check_audio):
        with pytest.raises(VideoError, match="the sound cannot be decoded") as caught:
            use()
        assert not isinstance(caught.value, NoAudioError)


@pytest.mark.parametrize(
    ("suffix", "marks"), [(".mp4", [(b"avc1", b"zzz1"), (b"avcC", b"zzzC")]), (".mkv", [(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ")])]
)
def test_a_picture_of_an_unknown_codec_leaves_the_sound(suffix: str, marks: list[tuple[bytes, bytes]], tmp_path: Path) -> None:
    video = Video(renamed(make_video(tmp_path / f"a{suffix}", seconds=2, size=SIZE, audio="tone"), *marks))
    assert (video.has_video, video.has_audio) == (False, True)
    assert kinds(video) == [("video", "no decoder")]
    assert np.abs(video.audio()).max() > 0.3
    with pytest.raises(VideoError, match=r"the picture cannot be decoded \(unknown codec\)"):
        video.frames([0.0])


def test_where_nothing_can_be_decoded_both_are_named(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1, size=SIZE, audio="tone")
    renamed(path, (b"mp4a", b"apac"), (b"esds", b"dapa"), (b"avc1", b"zzz1"), (b"avcC", b"zzzC"))
    with pytest.raises(VideoError, match=r"nothing of .* the picture cannot be decoded .* and the sound cannot be decoded") as caught:
        Video(path)
    assert caught.value.exit_code == 4


def test_a_stream_that_can_be_decoded_is_preferred_to_a_better_one(tmp_path: Path) -> None:
    """As on iPhones: a second track of sound in a codec that is not known, with more channels, before the one that is."""
    path = tmp_path / "phone.mkv"
    with av.open(str(path), "w") as output:
        video: Any = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        tracks: list[Any] = [output.add_stream("pcm_s16le", rate=48000, layout=layout) for layout in ("5.1", "mono")]
        tracks[0].codec_context.bit_rate = 4_000_000
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(numbered(index, SIZE), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for track, channels, value in zip(tracks, (6, 1), (0, 8000), strict=True):
            sound = av.AudioFrame.from_ndarray(np.full((1, 96000 * channels), value, np.int16), format="s16", layout=track.layout.name)
            sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
            output.mux(track.encode(sound))
            output.mux(track.encode(None))
    data = path.read_bytes()
    at = data.index(b"A_PCM/INT/LIT")
    path.write_bytes(data[:at] + b"A_XYZ/INT/LIT" + data[at + 13 :])
    heard = Video(path)
    assert heard.audio(0.5, 1.5).mean() == pytest.approx(8000 / 32768, abs=0.01)


def test_sound_is_of_the_pictures_programme(tmp_path: Path) -> None:
    """MPEG-TS with two programmes; the other one's sound is better. Its two parts have one table of programmes (ISO/IEC 13818-1)."""
    packets: list[bytes] = []
    for number, hertz in ((1, 400), (2, 800)):
        places = {"mpegts_service_id": number, "mpegts_start_pid": 256 * number, "mpegts_pmt_start_pid": 0x1000 + number}
        options = {name: str(value) for name, value in places.items()}
        rate = 24000 * number
        sound: dict[str, Any] = {"audio": tone(2.0, hertz=hertz, rate=rate), "audio_codec": "mp2", "audio_rate": rate}
        path = make_video(tmp_path / f"{number}.ts", seconds=2, size=SIZE, container_options=options, **sound)
        data = path.read_bytes()
        packets += [data[at : at + 188] for at in range(0, len(data), 188) if data[at + 1] & 31 or data[at + 2]]
    programmes = b"".join(number.to_bytes(2, "big") + (0xF000 + number).to_bytes(2, "big") for number in (1, 2))
    table = bytes([0, 0xB0, 9 + len(programmes), 0, 1, 0xC1, 0, 0]) + programmes
    check = 0xFFFFFFFF
    for bit in (byte >> shift & 1 for byte in table for shift in range(7, -1, -1)):
        check = (check << 1 ^ (0x04C11DB7 if bit ^ check >> 31 else 0)) & 0xFFFFFFFF
    first = bytes([0x47, 0x40, 0, 0x10, 0]) + table + check.to_bytes(4, "big")
    (path := tmp_path / "both.ts").write_bytes(first.ljust(188, b"\xff") + b"".join(packets))
    with av.open(str(path)) as container:
        assert len(container.streams) == 4
        best = container.streams.best("audio")
        assert best is not None
        assert best.index == 3
    heard = Video(path).audio(0.5, 1.5)
    assert np.argmax(np.abs(np.fft.rfft(heard))) == pytest.approx(400, abs=3)


def scrambled(path: Path, kind: str) -> None:
    """Overwrite the payload of all packets of a kind, as if they were encrypted or lost."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        places = [(packet.pos, packet.size) for packet in container.demux(stream) if packet.pos is not None and packet.size]
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(3).integers(128, 255, max(size for _, size in places), np.uint8).tobytes()
    for at, size in places:
        data[at : at + size] = noise[:size]
    path.write_bytes(data)


def test_sound_of_nothing_but_damage_is_no_empty_transcript(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=2, size=SIZE, audio="tone")
    scrambled(path, "audio")
    video = Video(path)
    assert not video.has_audio
    assert kinds(video) == [("audio", "undecodable")]
    with pytest.raises(VideoError, match="the sound cannot be decoded"):
        video.check_audio()
    assert read_number(next(video.frames([1.0])).image) == 25


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_blank_stretches_are_told_before_anything_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / f"a{suffix}", seconds=8, size=(160, 120), audio="tone", bframes=0)
    data = bytearray(path.read_bytes())
    begin, end = len(data) // 3, len(data) * 2 // 3
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    assert any(kind in ("damaged", "joined", "cut short") for _, kind in kinds(Video(path)))


def test_damage_met_on_the_way_is_told(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", seconds=8, size=(160, 120), audio="tone", bframes=0)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size, packet.stream.type) for packet in container.demux() if packet.pos is not None and packet.size]
    data = bytearray(path.read_bytes())
    for at, size, _kind in places[len(places) // 3 : len(places) // 2]:
        data[at + 8 : at + size] = bytes([255]) * (size - 8)
    path.write_bytes(data)
    video = Video(path)
    video.audio()
    list(video.frames([index / 25 for index in range(200)], SIZE))
    assert {("audio", "damaged"), ("video", "damaged")} & set(kinds(video))
    again = kinds(video)
    video.audio()
    assert kinds(video) == again


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".wav", ".avi"])
def test_a_file_that_is_cut_short_says_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"part{suffix}"
    if suffix == ".wav":
        make_audio(path, tone(20.0))
    else:
        options = {"container_options": {"movflags": "faststart"}} if suffix == ".mp4" else {}
        make_video(path, seconds=20, size=SIZE, codec="mpeg4" if suffix == ".avi" else "libx264", audio="tone", **options)  # type: ignore[arg-type]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    video = Video(path)
    assert video.duration < 19
    assert ("file", "cut short") in kinds(video), video.notices


@pytest.mark.parametrize(("suffix", "codec"), [(".avi", "adpcm_ima_wav"), (".aac", None)])
def test_durations_that_are_guesses_are_no_claims(suffix: str, codec: str | None, tmp_path: Path) -> None:
    """Of ADPCM in AVI the byte rate is not the real one; of AAC it is that of the beginning, which is quiet here."""
    sound = np.concatenate([np.zeros(10 * 16000), np.random.default_rng(1).normal(0, 0.2, 20 * 16000)]).astype(np.float32)
    video = Video(make_audio(tmp_path / f"a{suffix}", sound, rate=16000, codec=codec))
    assert video.duration == pytest.approx(30, abs=0.2)
    assert video.notices == ()


def test_a_clock_that_jumps_is_no_claim(tmp_path: Path) -> None:
    path = tmp_path / "restarted.ts"
    path.write_bytes(
        b"".join(
            make_video(tmp_path / f"{start}.ts", seconds=3, size=SIZE, start=start, audio="tone", audio_start=start).read_bytes()
            for start in (0, 500)
        )
    )
    video = Video(path)
    assert video.duration == pytest.approx(6, abs=0.2)
    assert kinds(video) == [("file", "joined")]


CUT: dict[str, dict[str, Any]] = {
    "start.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_every_frame+empty_moov+default_base_moof"}},
    "a.flv": {},
    "a.mkv": {},
    "a.avi": {"codec": "mjpeg"},
    "a.ivf": {"codec": "libvpx-vp9"},
}


@pytest.mark.parametrize("name", CUT)
def test_all_pictures_before_a_cut_are_shown_and_nothing_else(name: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / name, seconds=2, size=SIZE, bframes=0 if "codec" not in CUT[name] else None, **CUT[name])
    with av.open(str(path)) as container:
        place, size = next((packet.pos, packet.size) for number, packet in enumerate(container.demux(video=0)) if number == 40)
    assert place is not None
    os.truncate(path, place + size * 3 // 4)
    video = Video(path)
    assert video.duration == pytest.approx(1.6, abs=0.05)
    assert [read_number(frame.image) for frame in video.frames([index / 25 + 0.02 for index in range(40)])] == list(range(40))
    assert "damaged" not in [kind for _, kind in kinds(video)]


@pytest.mark.parametrize(("name", "codec"), [("a.aac", "aac"), ("a.flac", "flac"), ("a.flv", "aac")])
def test_sound_that_ends_inside_a_packet_is_cut_and_not_damaged(name: str, codec: str, tmp_path: Path) -> None:
    path = make_audio(tmp_path / name, tone(4.0), codec=codec)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    middle = packets[len(packets) // 2]
    assert middle.pos is not None
    os.truncate(path, middle.pos + middle.size // 2 + 8)
    video = Video(path)
    assert np.abs(video.audio()[24000:28800]).max() > 0.3
    assert "damaged" not in [kind for _, kind in kinds(video)]


@pytest.mark.parametrize(("start", "seconds"), [(1, 9), (3, 7), (7, 2)])
@pytest.mark.parametrize("damage", ["", "padded", "cut", "blank"])
def test_subtitles_may_outlast_the_picture(tmp_path: Path, start: int, seconds: int, damage: str) -> None:
    path = tmp_path / "part.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        text = container.add_stream("subrip")
        text.time_base = Fraction(1, 1000)
        text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n"
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 5, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(picture.encode(frame))
            if number == start * 10 or (number == 39 and start >= 4):
                packet = av.Packet(b"Said.")
                packet.stream, packet.time_base = text, text.time_base
                packet.pts = packet.dts = start * 1000
                packet.duration = seconds * 1000
                container.mux(packet)
        container.mux(picture.encode())
    data = path.read_bytes()
    if damage == "padded":
        path.write_bytes(data + bytes(1000))
    elif damage:
        path.write_bytes(data[: len(data) * 6 // 10] + (bytes(len(data) * 4 // 10) if damage == "blank" else b""))
    assert bool(kinds(Video(path))) == (damage in ("cut", "blank"))


def test_what_is_missing_of_the_sound_ends_no_picture(tmp_path: Path) -> None:
    """MP4 in one fragment, picture first, whose recording was killed."""
    options = {"movflags": "empty_moov+default_base_moof", "frag_duration": "60000000"}
    path = make_video(tmp_path / "a.mp4", seconds=6, size=(160, 120), bframes=0, audio="tone", container_options=options)
    with av.open(str(path)) as container:
        places = {packet.pos: (packet.stream.type, packet.size) for packet in container.demux() if packet.size}
    end = max(at + size for at, (kind, size) in places.items() if kind == "video" and at is not None)
    data = path.read_bytes()
    begin = min(at for at, (kind, _) in places.items() if kind == "audio" and at is not None)
    assert begin >= end
    for length, frames in ((end, 149), (end - sum(size for kind, size in places.values() if kind == "video") // 4, 100)):
        path.write_bytes(data[:length])
        video = Video(path)
        assert ("audio", "missing") in kinds(video)
        assert (len({frame.time for frame in video.frames([index / 25 for index in range(150)], SIZE)}) >= frames) and not video.has_audio
        with pytest.raises(VideoError, match="the sound is missing: the file ends before its data; download, record or export it again"):
            video.check_audio()


def test_both_parts_of_a_fragment_are_read_as_far_as_they_are_there(tmp_path: Path) -> None:
    options = {"movflags": "empty_moov+default_base_moof", "frag_duration": "3000000"}
    path = make_video(tmp_path / "a.mp4", seconds=6, size=(160, 120), bframes=0, audio="tone", container_options=options)
    with av.open(str(path)) as container:
        last = max(packet.pos or 0 for packet in container.demux(video=0))
    path.write_bytes(path.read_bytes()[:last])  # no sound of the second fragment
    video = Video(path)
    assert video.duration == pytest.approx(6, abs=0.1)
    assert kinds(video) == [("file", "cut short")]
    assert read_number(next(video.frames([5.7])).image) == pytest.approx(142, abs=1)
    sound = video.audio()
    assert np.abs(sound[:40000]).max() > 0.4 > 0.01 > np.abs(sound[60000:]).max()


def test_a_whole_file_says_nothing(clip_path: Path, silent_path: Path) -> None:
    assert Video(clip_path).notices == Video(silent_path).notices == ()


# ---- pictures and sound out of the ordinary ------------------------------------------------------------------------


def exif_jpeg(path: Path) -> None:
    """A picture with an EXIF block (orientation 1) behind its first marker."""
    with av.open(str(path), "w", format="image2") as output:
        stream: Any = output.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(numbered(77, SIZE), format="rgb24")
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tiff
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:])


def picture(codec: str, pixels: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with av.open(str(path), "w", format="image2") as output:
            stream: Any = output.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
            output.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(77, SIZE), format="rgb24")))
            output.mux(stream.encode(None))

    return make


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("exif.jpg", exif_jpeg),
        ("a.tiff", picture("tiff", "rgb24")),
        ("a.png", picture("png", "rgb24")),
        ("a.bmp", picture("bmp", "bgr24")),
    ],
)
def test_pictures_are_videos_of_one_frame(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)
    assert read_number(next(Video(path).frames([0.0])).image) == 77


@pytest.mark.parametrize("channels", [9, 16, 32, 64])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_sound_of_many_channels(channels: int, bits: int, tmp_path: Path) -> None:
    path = tmp_path / "array.wav"
    samples = (8000 / 32768 * np.ones((16000, channels))) * 2 ** (bits - 1) + (128 if bits == 8 else 0)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(16000)
        file.writeframes(samples.astype({8: np.uint8, 16: np.int16, 32: np.int32}[bits]).tobytes())
    video = Video(path)
    assert video.duration == pytest.approx(1.0, abs=0.01)
    assert video.audio(0.2, 0.8).mean() == pytest.approx(8000 / 32768, abs=0.02)
    clip = Video(video.clip(0.2, 0.8, tmp_path / "clip.m4a"))
    assert clip.has_audio


@pytest.mark.parametrize(("pixel", "width"), [(Fraction(2), 128), (Fraction(100), 64), (Fraction(1, 100), 64)])
def test_the_shape_of_pixels_is_believed_within_reason(pixel: Fraction, width: int, tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / "a.mp4", seconds=1, size=SIZE, sar=pixel))
    assert (video.width, video.height) == (width, 48)


def test_a_clock_of_thousands_of_ticks_is_no_frame_rate(tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / "tape.dv", seconds=0.2, size=(720, 576), codec="dvvideo"))
    assert video.fps == 25
    assert read_number(next(video.frames([0.1])).image) == 2


@pytest.mark.parametrize(("codec", "kind"), [("pcm_f32le", "<f4"), ("pcm_f64le", "<f8")])
def test_numbers_that_are_no_samples_stay_within_bounds(codec: str, kind: str, tmp_path: Path) -> None:
    path = make_audio(tmp_path / "float.wav", tone(2.0), codec=codec)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 8 + 8 * 20000
    data[at : at + 64] = np.array([np.nan, np.inf, -np.inf, 1e38] * 4, kind).tobytes()[:64]
    path.write_bytes(data)
    heard = Video(path).audio()
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1.0
    assert np.abs(heard[-8000:]).max() == pytest.approx(0.5, abs=0.01)


def test_pictures_too_large_to_decode_are_refused(tmp_path: Path) -> None:
    side = 12_000
    packed = zlib.compress(bytes(1 + side // 8) * side)  # black and white, a bit per pixel

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    path = tmp_path / "poster.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    with pytest.raises(VideoError, match="12000x12000 pixels; the most that is decoded is 128 million, not 144: scale it down"):
        Video(path)


def test_an_animated_webp_is_not_its_first_picture(tmp_path: Path) -> None:
    _, still = cv2.imencode(".webp", numbered(1, SIZE))
    place = bytes(6) + (SIZE[0] - 1).to_bytes(3, "little") + (SIZE[1] - 1).to_bytes(3, "little")

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + len(data).to_bytes(4, "little") + data

    head = chunk(b"VP8X", bytes([2, 0, 0, 0]) + place[6:]) + chunk(b"ANIM", bytes(6))
    frame = chunk(b"ANMF", place + (100).to_bytes(3, "little") + bytes(1) + still.tobytes()[12:])
    (tmp_path / "sticker.webp").write_bytes(chunk(b"RIFF", b"WEBP" + head + 3 * frame))
    with pytest.raises(VideoError, match=r"animated WebP\); convert it to H\.264"):
        Video(tmp_path / "sticker.webp")
    (tmp_path / "photo.webp").write_bytes(still.tobytes())
    assert Video(tmp_path / "photo.webp").notices == ()
    (tmp_path / "torn.webp").write_bytes(chunk(b"RIFF", b"WEBPVP8X"))
    with pytest.raises(VideoError, match="damaged"):
        Video(tmp_path / "torn.webp")
