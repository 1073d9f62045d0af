"""Frames with cached times are not decoded, and are the same frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sage_cli.errors import VideoError
from sage_cli.video import FrameReader, FrameTimeCache, Sampling, Video
from sage_cli.video.cached import CachedFrames
from sage_cli.video.frame import pixel_version
from tests.media import make_video

SIZE = (64, 48)
TIMES = [0.0, 0.7, 0.71, 3.3, 1.5, 9.0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_video(tmp_path / "clip.mp4", seconds=4, fps=10, size=SIZE)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FrameTimeCache]:
    with closing(FrameTimeCache(tmp_path / "times")) as cache:
        yield cache


def test_cached_frames_are_those_that_were_read(path: Path, cache: FrameTimeCache, tmp_path: Path) -> None:
    plain = list(Video(path).frames(TIMES, SIZE))
    first = Video(path, cache=cache).frames(TIMES, SIZE)
    assert first.method in ("sequential", "seek")
    assert [frame.key for frame in first] == [frame.key for frame in plain]
    again = Video(path, cache=FrameTimeCache(tmp_path / "times")).frames(TIMES, SIZE)
    assert again.method == "cached"
    frames = list(again)
    for frame, same in zip(frames, plain, strict=True):
        assert (frame.time, frame.key, frame.width, frame.height) == (same.time, same.key, *SIZE)
    # Whatever order they are looked at in.
    for number in (2, 5, 0, 4, 3, 1):
        assert np.array_equal(frames[number].image, plain[number].image)


def test_nothing_is_decoded_until_an_image_is_asked_for(path: Path, cache: FrameTimeCache) -> None:
    list(Video(path, cache=cache).frames(TIMES, SIZE))
    video = Video(path, cache=cache)
    path.unlink()
    frames = list(video.frames(TIMES, SIZE))
    assert len(frames) == len(TIMES)
    with pytest.raises(VideoError):
        _ = frames[0].image


def test_other_sizes_share_the_times(path: Path, cache: FrameTimeCache) -> None:
    list(Video(path, cache=cache).frames(TIMES, SIZE))
    reader = Video(path, cache=cache).frames(TIMES, (32, 24))
    assert reader.method == "cached"
    assert next(reader).image.shape == (24, 32, 3)


def test_another_decoder_finds_nothing(path: Path, cache: FrameTimeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the times nor, by the keys, anything that was computed from the frames."""
    keys = {frame.key for frame in Video(path, cache=cache).frames(TIMES, SIZE)}
    monkeypatch.setattr("av.__version__", "99.0")
    pixel_version.cache_clear()
    try:
        reader = Video(path, cache=cache).frames(TIMES, SIZE)
        assert reader.method != "cached"
        assert keys.isdisjoint(frame.key for frame in reader)
    finally:
        monkeypatch.undo()
        pixel_version.cache_clear()
    assert Video(path, cache=cache).frames(TIMES, SIZE).method == "cached"


def test_other_times_and_other_videos_are_read(path: Path, cache: FrameTimeCache) -> None:
    list(Video(path, cache=cache).frames(TIMES, SIZE))
    assert Video(path, cache=cache).frames(TIMES[:-1], SIZE).method != "cached"
    make_video(path, seconds=5, fps=10, size=SIZE)
    assert Video(path, cache=cache).frames(TIMES, SIZE).method != "cached"


def test_what_was_not_read_to_its_end_is_not_cached(path: Path, cache: FrameTimeCache) -> None:
    reader = Video(path, cache=cache).frames(TIMES, SIZE)
    next(reader)
    reader.close()
    assert Video(path, cache=cache).frames(TIMES, SIZE).method != "cached"


def test_a_folder_that_cannot_be_made_is_done_without(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = FrameTimeCache(tmp_path / "file")
    for _ in range(2):
        assert len(list(Video(path, cache=cache).frames(TIMES, SIZE))) == len(TIMES)


def test_a_damaged_entry_is_read_again(path: Path, cache: FrameTimeCache, tmp_path: Path) -> None:
    expected = [frame.key for frame in Video(path, cache=cache).frames(TIMES, SIZE)]
    for file in (tmp_path / "times").glob("cache.db*"):
        file.write_bytes(b"not a database" * 1000)
    damaged = Video(path, cache=FrameTimeCache(tmp_path / "times")).frames(TIMES, SIZE)
    assert [frame.key for frame in damaged] == expected


def test_keyframes_are_cached_apart_from_exact_frames(tmp_path: Path, cache: FrameTimeCache) -> None:
    path = make_video(tmp_path / "gop.mp4", seconds=4, fps=10, size=SIZE, gop=10)
    times = [0.2, 0.3, 1.4, 3.6]
    read = list(Video(path, cache=cache).frames(times, SIZE, sampling="keyframe"))
    again = Video(path, cache=cache).frames(times, SIZE, sampling="keyframe")
    assert again.method == "cached"
    frames = list(again)
    assert [frame.time for frame in frames] == [frame.time for frame in read]
    assert len(frames) < len(times)
    assert np.array_equal(frames[-1].image, read[-1].image)
    assert Video(path, cache=cache).frames(times, SIZE).method != "cached"


def test_a_file_whose_times_come_out_differently_by_seeking_is_decoded_anew(tmp_path: Path, cache: FrameTimeCache) -> None:
    """MPEG-PS: demuxers guess time stamps, and guess others after another seek."""
    path = make_video(tmp_path / "disc.mpg", seconds=8, size=SIZE, codec="mpeg2video", gop=15, bframes=2, audio="tone", audio_codec="mp2")
    for sampling in ("keyframe", "auto", "exact"):
        times = [0.3 + 0.7 * step for step in range(10)]
        read = list(Video(path, cache=cache).frames(times, SIZE, sampling=sampling))
        again = Video(path, cache=cache).frames(times, SIZE, sampling=sampling)
        assert again.method == "cached"
        for frame, same in zip(again, read, strict=True):
            assert np.array_equal(frame.image, same.image)


@pytest.mark.parametrize("steady", [True, False])
def test_times_that_come_out_differently_are_read_as_before_or_forgotten(steady: bool, path: Path) -> None:
    times, forgotten = [0.0, 1.0, 2.0], []

    def shifted(wanted: Sequence[float], sampling: Sampling) -> FrameReader:
        return Video(path).frames([time + 0.1 for time in wanted], SIZE, sampling=sampling)

    def anew() -> FrameReader:
        return Video(path).frames([time + (0 if steady else 0.1) for time in times], SIZE)

    frames = list(CachedFrames("id", times, SIZE, shifted, anew, lambda: forgotten.append(1)).frames())
    if steady:
        assert [round(float(np.abs(frames[n].image - next(Video(path).frames([times[n]], SIZE)).image).max())) for n in (1, 0, 2)] == [
            0
        ] * 3
    else:
        with pytest.raises(VideoError, match="run the command again"):
            _ = frames[1].image
    assert bool(forgotten) is not steady
