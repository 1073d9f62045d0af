"""Frames read ahead by several decoders: the pixels of a plain decode, in order, a limited number ahead; and keyframes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from sage_cli.errors import VideoError
from sage_cli.video import Video, prefetch, uniform_times
from sage_cli.video.reader import picture
from tests.media import make_video, read_number
from tests.video.test_reader import FILES, SIZE, VARIABLE, decoded, straight

EVEN = {"x264-params": "scenecut=0"}  # no keyframes but those that were asked for


def noise(_time: float, index: int) -> NDArray[np.uint8]:
    """A picture that drifts, over noise: what is decoded wrongly looks different."""
    drifting = np.roll(np.random.default_rng(7).integers(0, 200, (48, 64, 3), np.uint8), index, axis=1)
    mixed: NDArray[np.uint8] = drifting + np.random.default_rng(index).integers(0, 55, (48, 64, 3), np.uint8)
    return mixed


def drifting(path: Path, **more: Any) -> Path:
    return make_video(path, size=SIZE, painter=noise, **{"seconds": 6, "gop": 50, "bframes": 3, **more})


STREAMS: dict[str, Callable[[Path], Path]] = {
    "pyramid.mp4": drifting,
    "pyramid.mkv": drifting,
    "pyramid.ts": drifting,
    "flat.mp4": lambda path: drifting(path, bframes=2, codec_options={"x264-params": "b-pyramid=none"}),
    "open.mp4": lambda path: drifting(path, codec_options={"x264-params": "open-gop=1:scenecut=0"}),
    "one-group.mp4": lambda path: drifting(path, gop=1000),
    "fields.mp4": lambda path: drifting(path, codec_options={"x264-params": "interlaced=1"}),
    "fields.ts": lambda path: drifting(path, codec_options={"x264-params": "interlaced=1"}),
    "variable.mp4": lambda path: drifting(path, times=VARIABLE),
    "hevc.mkv": lambda path: drifting(path, codec="libx265"),
    "hevc-layers.mkv": lambda path: drifting(
        path, codec="libx265", codec_options={"x265-params": "temporal-layers=1:keyint=50:log-level=none"}
    ),
    "vp9.webm": lambda path: drifting(path, codec="libvpx-vp9", bframes=None),
    "mpeg4.avi": lambda path: drifting(path, codec="mpeg4", bframes=2),
}


@pytest.mark.parametrize("cores", [1, 3, 8])
@pytest.mark.parametrize("name", STREAMS)
def test_pixels_are_those_of_a_plain_decode(name: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = STREAMS[name](tmp_path / name)
    video = Video(path)
    upright = video._video_track().orientation
    with av.open(str(path)) as container:
        truth = [(float(frame.pts * frame.time_base), picture(frame, upright, SIZE)) for frame in container.decode(video=0)]
    origin = truth[0][0]
    monkeypatch.setattr(prefetch, "cores", lambda: cores)
    for chosen in (range(0, len(truth), 7), range(3, len(truth), 40), [len(truth) - 1, 31, 31, 32, 90]):
        frames = list(video.frames([truth[number][0] - origin + 0.001 for number in chosen], SIZE))
        assert [frame.time for frame in frames] == pytest.approx([truth[number][0] - origin for number in chosen], abs=1e-4)
        for number, frame in zip(chosen, frames, strict=True):
            assert np.array_equal(frame.image, truth[number][1]), f"frame {number}"


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read_by_several_decoders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FILES[name](tmp_path / name)
    video, numbers = Video(path), [number for _, number in straight(path)]
    monkeypatch.setattr(prefetch, "cores", lambda: 4)
    times = [step / 50 for step in range(round(video.duration * 50) + 10)]
    seen = [read_number(frame.image) for frame in video.frames(times, SIZE)]
    assert sorted(set(seen)) == numbers
    assert seen == sorted(seen)


def test_a_file_without_an_index_or_a_clock_is_decoded_straight_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "cores", lambda: 4)
    video = Video(make_video(tmp_path / "bare.h264", seconds=4, size=SIZE, gop=25, bframes=2))
    for sampling in ("exact", "auto"):
        seen = [read_number(frame.image) for frame in video.frames([0, 0.4, 1.2, 2.0, 3.6], SIZE, sampling=sampling)]
        assert seen == [0, 10, 30, 50, 90]


@pytest.mark.skipif(not hasattr(VideoCodecContext, "field_order"), reason="PyAV before 18 does not tell fields from frames")
def test_frames_that_no_other_refers_to_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = Video(make_video(tmp_path / "long.mp4", seconds=8, size=SIZE, gop=200, bframes=3, codec_options=EVEN))
    count = decoded(monkeypatch)
    assert read_number(next(video.frames([7.2], SIZE)).image) == 180
    assert 40 < len(count) < 0.6 * 180


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sage-frames"]


def test_no_thread_outlives_the_reader(clip_path: Path) -> None:
    times = uniform_times(4.0, 8)
    video = Video(clip_path)
    assert len(list(video.frames(times, SIZE))) == 8
    assert not alive()
    reader = video.frames(times, SIZE)
    next(reader)
    reader.close()
    assert not alive()
    next(video.frames(times, SIZE))
    gc.collect()
    assert not alive()


def test_only_so_many_frames_wait(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "cores", lambda: 4)
    monkeypatch.setattr(prefetch, "_MOST_WAITING", 5 * 3 * SIZE[0] * SIZE[1])
    made, taken, excess = [0], [0], [0]
    lock = threading.Lock()

    def counting(*arguments: Any) -> NDArray[np.uint8]:
        with lock:
            made[0] += 1
            excess[0] = max(excess[0], made[0] - taken[0])
        return picture(*arguments)

    monkeypatch.setattr(prefetch, "picture", counting)
    for _ in Video(clip_path).frames([time / 25 for time in range(100)], SIZE):
        taken[0] += 1
    assert made[0] == 100
    assert 1 <= excess[0] <= 5 + 1  # one has left the queue, but is not counted as taken yet


def test_errors_come_to_whoever_takes_the_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "gone.mp4", seconds=4, size=SIZE, gop=25)
    reader = Video(path).frames([0.0, 2.0], SIZE)
    path.unlink()
    with pytest.raises(VideoError, match=r"cannot open .*gone\.mp4"):
        next(reader)
    assert not alive()


# ---- keyframes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"stills.mov"}))
def test_keyframes_come_with_their_true_times(name: str, tmp_path: Path) -> None:
    path = FILES[name](tmp_path / name)
    video, origin = Video(path), straight(path)[0][0]
    with av.open(str(path)) as container:
        keys = {
            read_number(frame.to_ndarray(format="rgb24")): float(frame.pts * frame.time_base - origin)
            for frame in container.decode(video=0)
            if frame.key_frame
        }
    late = next(video.frames([0.0], SIZE)).time
    reader = video.frames(uniform_times(video.duration, 40), SIZE, sampling="keyframe")
    frames = list(reader)
    assert reader.method == "keyframe"
    seen = [read_number(frame.image) for frame in frames]
    assert len(seen) >= 2
    assert seen == sorted(set(seen))
    assert set(seen) <= keys.keys()
    assert [frame.time - late for frame in frames] == pytest.approx([keys[number] for number in seen], abs=1e-3)


def test_nothing_but_keyframes_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = Video(make_video(tmp_path / "long.mp4", seconds=12, size=SIZE, gop=25, bframes=2, codec_options=EVEN))
    count = decoded(monkeypatch)
    frames = video.frames([2.3, 5.6, 5.7, 9.1], SIZE, sampling="keyframe")
    # 2.3 s is nearest to 2.0 s, which lies before the first of the times
    assert [read_number(frame.image) for frame in frames] == [75, 150, 225]
    assert len(count) == 3


def test_without_a_keyframe_in_the_stretch_the_frames_are_exact(tmp_path: Path) -> None:
    video = Video(make_video(tmp_path / "long.mp4", seconds=12, size=SIZE, gop=100, bframes=2, codec_options=EVEN))
    reader = video.frames([4.4, 5.0, 5.6], SIZE, sampling="keyframe")
    assert reader.method != "keyframe"
    assert [read_number(frame.image) for frame in reader] == [110, 125, 140]
