"""Frames by time against a straight decode of the whole file: every frame carries its number, so an answer is right or wrong."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from sage_cli.errors import VideoError
from sage_cli.video import Video, uniform_times
from sage_cli.video.media import Orientation
from sage_cli.video.mp4 import _crop
from sage_cli.video.reader import FrameCursor, picture
from tests.media import Image, corners, display_matrix, make_audio, make_video, numbered, read_number, tone, with_sound_first

SIZE = (64, 48)
VARIABLE = [0.0]
for _step in random.Random(0).choices([0.02, 0.04, 0.1, 0.5], k=90):
    VARIABLE.append(round(VARIABLE[-1] + _step, 3))

FILES: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, bframes=3, audio="tone"),
    "sound-first.mkv": lambda path: with_sound_first(make_video(path, seconds=2, size=SIZE, gop=25, bframes=3, audio="tone")),
    "open-gop.mp4": lambda path: make_video(
        path, seconds=4, size=SIZE, gop=25, bframes=3, codec_options={"x264-params": "open-gop=1:scenecut=0"}
    ),
    "vp9.webm": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, codec="libvpx-vp9", audio="tone"),
    "hevc.mkv": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, codec="libx265"),
    "mpeg4.avi": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, codec="mpeg4", bframes=2, audio="tone"),
    "variable.mp4": lambda path: make_video(path, times=VARIABLE, size=SIZE, gop=25, bframes=3),
    "variable.mkv": lambda path: make_video(path, times=VARIABLE, size=SIZE, gop=25, bframes=3),
    "ntsc.mkv": lambda path: make_video(path, seconds=5, fps=Fraction(30000, 1001), size=SIZE, gop=30),
    "late.mp4": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, bframes=2, audio="tone", start=1.5),
    "late.webm": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, codec="libvpx-vp9", start=3.0),
    "edit-list.mp4": lambda path: make_video(
        path, seconds=4, size=SIZE, gop=25, bframes=2, start=-0.9, container_options={"avoid_negative_ts": "disabled"}
    ),
    "fragmented.mp4": lambda path: make_video(
        path, seconds=4, size=SIZE, gop=25, bframes=2, container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "live.webm": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, codec="libvpx-vp9", container_options={"live": "1"}),
    "stream.ts": lambda path: make_video(path, seconds=4, size=SIZE, gop=25, bframes=2, audio="tone"),
    "disc.mpg": lambda path: make_video(path, seconds=4, size=SIZE, gop=15, bframes=2, codec="mpeg2video"),
    "stills.mov": lambda path: make_video(path, seconds=2, size=SIZE, codec="mjpeg"),
}


@pytest.fixture(scope="module", params=FILES)
def any_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FILES[request.param](tmp_path_factory.mktemp("files") / request.param)


def straight(path: Path) -> list[tuple[Fraction, int]]:
    """Presentation time and number of every frame, by plain PyAV."""
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, read_number(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)]


def test_the_frame_on_screen_is_found_in_every_format(any_file: Path) -> None:
    video, truth = Video(any_file), straight(any_file)
    # All of these files have their first picture or their first sound where their own clock says zero, but for those that begin elsewhere.
    origin = truth[0][0] - Fraction(next(iter(video.frames([0.0]))).time).limit_denominator(90000)
    shuffled = random.Random(1)
    cases = [
        [float(time - origin) for time, _ in truth],  # exactly at each frame
        [0.0, video.duration / 2, video.duration],  # both ends
        sorted(shuffled.uniform(-0.5, video.duration + 0.5) for _ in range(30)),
        [shuffled.uniform(0, video.duration) for _ in range(8)],  # any order
        [1.0, 1.0, 1.0],
        *([float(time - origin)] for time, _ in truth[::47]),
    ]
    for times in cases:
        frames = list(video.frames(times, SIZE))
        assert len(frames) == len(times)
        for asked, frame in zip(times, frames, strict=True):
            shown = [entry for entry in truth if entry[0] - origin <= Fraction(asked) + Fraction(1, 2000)] or truth[:1]
            assert read_number(frame.image) == shown[-1][1], f"at {asked}"
            assert frame.time == pytest.approx(float(shown[-1][0] - origin), abs=1e-4)


def test_a_frames_own_time_finds_it_again(any_file: Path) -> None:
    video = Video(any_file)
    first = list(video.frames(uniform_times(video.duration, 8), SIZE))
    again = list(video.frames([frame.time for frame in first], SIZE))
    assert [frame.key for frame in again] == [frame.key for frame in first]


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with each frame that is decoded from now on."""
    count: list[int] = []
    original = FrameCursor._decode

    def counting(self: FrameCursor, stream: Iterator[av.Packet[av.VideoStream]]) -> Iterator[av.VideoFrame]:
        for frame in original(self, stream):
            count.append(1)
            yield frame

    monkeypatch.setattr(FrameCursor, "_decode", counting)
    return count


@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm", "hevc.mkv", "mpeg4.avi", "stream.ts", "fragmented.mp4"])
def test_sparse_samples_seek_and_dense_ones_scan(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = {"vp9.webm": "libvpx-vp9", "hevc.mkv": "libx265", "mpeg4.avi": "mpeg4"}.get(name, "libx264")
    options = {"movflags": "frag_keyframe+empty_moov"} if name.startswith("frag") else None
    video = Video(make_video(tmp_path / name, seconds=12, size=SIZE, gop=25, container_options=options, codec=codec))
    count = decoded(monkeypatch)

    sparse = video.frames([0.1, 5.3, 11.2], SIZE)
    assert sparse.method == "seek"
    assert [read_number(frame.image) for frame in sparse] == [2, 132, 280]
    assert len(count) < 3 * (25 + 20)  # three groups of pictures and what the decoder holds, of 300 frames

    count.clear()
    dense = video.frames([time / 10 for time in range(120)], SIZE)
    assert dense.method == "sequential"
    assert len({frame.key for frame in dense}) == 120
    assert len(count) <= 300 + 6  # every frame once, and where one decoder's piece ends and another's begins, perhaps one more


def test_nothing_is_decoded_before_it_is_asked_for(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = Video(clip_path)
    count = decoded(monkeypatch)
    reader = video.frames([0.0, 1.0, 2.0, 3.0])
    assert not count
    next(reader)
    assert len(count) < 50
    reader.close()
    assert list(reader) == []


# ---- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "rotation"),
    [
        ((1, 0, 0, 1), 0),
        ((0, 1, -1, 0), 90),
        ((-1, 0, 0, -1), 180),
        ((0, -1, 1, 0), 270),
        ((-1, 0, 0, 1), 0),  # mirrored
        ((1, 0, 0, -1), 180),
        ((0, 1, 1, 0), 270),
        ((0, -1, -1, 0), 90),
    ],
)
def test_frames_stand_upright(matrix: tuple[int, int, int, int], rotation: int, tmp_path: Path) -> None:
    stored = corners((64, 48))
    path = make_video(
        tmp_path / "turned.mp4", seconds=0.2, size=(64, 48), matrix=display_matrix(*matrix), painter=lambda _time, _index: stored
    )
    # Where each stored pixel belongs, by the matrix's definition.
    a, b, c, d = matrix
    y, x = np.mgrid[0:48, 0:64]
    right, down = a * x + c * y, b * x + d * y
    right, down = right - right.min(), down - down.min()
    expected = np.zeros((down.max() + 1, right.max() + 1, 3), np.uint8)
    expected[down, right] = stored

    video = Video(path)
    frame = next(video.frames([0.0]))
    assert video.rotation == rotation
    assert (video.width, video.height) == (frame.width, frame.height) == (expected.shape[1], expected.shape[0])
    assert np.abs(frame.image.astype(int) - expected).mean() < 8
    assert frame.image.flags.c_contiguous
    small = next(video.frames([0.0], (expected.shape[1] // 2, expected.shape[0] // 2)))
    assert np.abs(small.image.astype(int) - expected[::2, ::2]).mean() < 8


@pytest.mark.parametrize(("sar", "size"), [(Fraction(4, 3), (128, 72)), (Fraction(3, 4), (96, 96))])
def test_pixels_become_square(sar: Fraction, size: tuple[int, int], tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / "wide.mp4", seconds=1, size=(96, 72), sar=sar))
    frame = next(video.frames([0.48]))
    assert (video.width, video.height) == (frame.width, frame.height) == size
    assert read_number(frame.image) == 12


def test_fine_detail_turns_grey_and_not_into_patterns(tmp_path: Path) -> None:
    checks = (np.indices((96, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    path = make_video(tmp_path / "checks.mkv", seconds=0.2, size=(128, 96), painter=lambda _time, _index: checks, codec_options={"qp": "0"})
    image = next(Video(path).frames([0.0], (48, 36))).image
    assert abs(int(image.mean()) - 127) < 6
    assert image.std() < 40


@pytest.mark.parametrize("stored", ["yuv420p", "yuvj420p", "yuv422p", "nv12", "yuv420p10le", "yuv444p", "rgb24"])
@pytest.mark.parametrize("colours", ["ITU601", "ITU709"])
def test_a_small_picture_is_the_average_of_what_was_filmed(stored: str, colours: str) -> None:
    noise = np.random.default_rng(0)
    filmed = np.full((540, 960, 3), 128, np.float32)
    for size, strength in ((120, 40), (30, 30), (4, 20)):
        grid = noise.normal(size=(540 // size + 1, 960 // size + 1, 3)).astype(np.float32)
        filmed += strength * cv2.resize(grid, (960, 540), interpolation=cv2.INTER_CUBIC)
    pixels = filmed.clip(0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=stored, dst_colorspace=colours)
    seen = picture(frame, Orientation(), (240, 135)).astype(np.int16)
    off = seen - cv2.resize(pixels, (240, 135), interpolation=cv2.INTER_AREA).astype(np.int16)
    assert abs(off.mean()) < 0.5
    assert np.abs(off).mean() < 1.3


def test_a_key_names_the_pixels(clip_path: Path, tmp_path: Path) -> None:
    video = Video(clip_path)
    first, same, later = video.frames([0.5, 0.51, 1.0], SIZE)
    assert first.key == same.key != later.key
    assert np.array_equal(first.image, same.image)
    assert next(video.frames([0.5], (32, 24))).key != first.key
    copy = tmp_path / "renamed.mp4"
    copy.write_bytes(clip_path.read_bytes())
    assert next(Video(copy).frames([0.5], SIZE)).key == first.key


# ---- damage --------------------------------------------------------------------------------------------------------


def test_damaged_packets_are_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_video(tmp_path / "good.mp4", seconds=8, size=(160, 120), gop=25, bframes=2)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pos is not None]
    # From the middle of the third group of pictures to its end: the fourth must not suffer.
    third = next(number for number, packet in enumerate(packets) if packet.is_keyframe and number >= 50)
    fourth = next(number for number, packet in enumerate(packets) if packet.is_keyframe and number > third + 1)
    victims = packets[third + 1 : fourth]
    data = bytearray(path.read_bytes())
    for packet in victims:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    begin, end = float(packets[third].pts * packets[third].time_base), float(packets[fourth].pts * packets[fourth].time_base)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    frames = list(Video(bad).frames([time / 5 for time in range(40)], SIZE))
    assert len(frames) == 40
    sound = [frame for frame in frames if frame.time <= begin - 0.2 or frame.time >= end]
    assert len(sound) > 30
    assert all(read_number(frame.image) == round(frame.time * 25) for frame in sound)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "bad.mp4: skipped" in caplog.text


def test_frames_of_a_sound_file_are_refused(tmp_path: Path) -> None:
    video = Video(make_audio(tmp_path / "speech.wav", tone(1.0)))
    with pytest.raises(VideoError, match="has sound but no picture"):
        video.frames([0.0])


def test_numbers_survive_the_builders(tmp_path: Path) -> None:
    for number in (0, 1, 2**15, 2**16 - 1, 0b1010_0101_1100_0011):
        assert read_number(numbered(number, (33, 47))) == number


def test_the_colors_of_a_palette_are_right_however_frames_are_asked_for(tmp_path: Path) -> None:
    """Raw AVI: a palette comes with the first packet that needs it alone."""
    path = tmp_path / "screen.avi"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "pal8"
        for number in range(60):
            palette = np.full((256, 4), 255, np.uint8)
            palette[1, 1:] = 20 * (number // 10 + 1)
            pixels: Any = (np.ones(SIZE[::-1], np.uint8), palette)
            frame = av.VideoFrame.from_ndarray(pixels, format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    video = Video(path)
    times = [(number + 0.5) / 25 for number in (5, 25, 55)]
    for frames in (list(video.frames(times)), [next(video.frames([time])) for time in times]):
        assert [int(frame.image.mean()) for frame in frames] == [20, 60, 120]


CROPS = {  # elements of Matroska: 16 pixels on the left, with 8 at the top, or with a display size of 96x48
    "54cc8110 54bb8108 ec820000": (48, 40),
    "54cc8110 54b08160 54ba8130": (96, 48),
}


def in_a_border(_time: float, _index: int) -> Image:
    image = np.full((48, 64, 3), 255, np.uint8)
    image[8:, 16:] = 0
    return image


@pytest.mark.parametrize("elements", CROPS)
def test_what_a_container_crops_is_not_seen(elements: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", seconds=1, size=SIZE, painter=in_a_border)
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # the duration of a frame, in whose place the elements go, and what holds the size
    size = bytes.fromhex("b08140 ba8130")
    assert data[at + 8 :].startswith(b"\xe0\x8a" + size)
    path.write_bytes(data[:at] + b"\xe0\x92" + size + bytes.fromhex(elements) + data[at + 20 :])
    video = Video(path)
    assert (video.width, video.height) == CROPS[elements]
    for shape in (None, (24, 20), (200, 200)):
        image = next(video.frames([0.5], shape)).image
        assert image.shape[1::-1] == (shape or CROPS[elements])
        assert image[image.shape[0] // 4 :].max() < 30


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_what_the_clean_aperture_cuts_off_is_not_seen(suffix: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / f"a{suffix}", seconds=1, size=SIZE, painter=in_a_border, audio="tone")
    data = bytearray(path.read_bytes())
    aperture = struct.pack(">I4s8i", 40, b"clap", 96, 2, 40, 1, 8, 1, 12, 3)  # 48 x 40, its center 8 to the right and 4 down
    boxes = [data.index(kind, data.index(b"moov")) - 4 for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")]
    end = boxes[-1] + int.from_bytes(data[boxes[-1] : boxes[-1] + 4], "big")
    for at in boxes:
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(aperture)).to_bytes(4, "big")
    path.write_bytes(data[:end] + aperture + data[end:])
    video = Video(path)
    assert (video.width, video.height) == (48, 40)
    assert next(video.frames([0.5])).image.max() < 30


@pytest.mark.parametrize(
    "numbers", ["", "64 1 48 1 0 1 0 1", "48 0 40 1 0 1 0 1", "48 1 40 1 30 1 0 1", "-48 1 40 1 0 1 0 1", "80 1 48 1 0 1 0 1"]
)
def test_a_clean_aperture_that_cuts_nothing_off_or_cannot_be(numbers: str) -> None:
    assert _crop(struct.pack(f">{len(numbers.split())}i", *map(int, numbers.split())), 64, 48) == (0, 0, 0, 0)


def test_pictures_are_cropped_before_they_are_turned() -> None:
    frame = av.VideoFrame.from_ndarray(in_a_border(0, 0), format="rgb24")
    for size in ((40, 48), (20, 24), (80, 96)):
        image = picture(frame, Orientation(True, flip_x=True, crop=(16, 8, 0, 0)), size)
        assert image.shape[1::-1] == size
        assert image.max() == 0
