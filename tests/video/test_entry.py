"""Decoding starts only at complete pictures: a recovery point is no keyframe."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from sage_cli.video import Video, prefetch
from sage_cli.video.entry import _Bits, _is_h264_entry, _recovery_frames
from sage_cli.video.reader import picture
from tests.media import make_video
from tests.video.test_prefetch import noise

SIZE = (64, 48)


@pytest.mark.parametrize(("suffix", "first"), [(".mp4", 0), (".mkv", 1), (".ts", 2), (".flv", 3)])
def test_frames_of_periodic_intra_refresh_are_exact(suffix: str, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "cores", lambda: 1)
    options = {"x264-params": "intra-refresh=1:keyint=50:scenecut=0"}
    path = make_video(tmp_path / f"refresh{suffix}", seconds=10, size=SIZE, painter=noise, codec_options=options, bframes=0)
    video = Video(path)
    with av.open(str(path)) as container:
        truth = [(float(frame.time or 0), picture(frame, video._video_track().orientation, SIZE)) for frame in container.decode(video=0)]
    assert len(truth) == 250
    origin = truth[0][0]
    wrong = []
    for number in range(first, 250, 4):  # each by itself
        frame = next(video.frames([truth[number][0] - origin + 0.001], SIZE))
        if not np.array_equal(frame.image, truth[number][1]):
            wrong.append(number)
    assert wrong == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_open_groups_of_pictures_are_still_entered(suffix: str, tmp_path: Path) -> None:
    options = {"x264-params": "open-gop=1:keyint=25:scenecut=0:bframes=3"}
    video = Video(make_video(tmp_path / f"open{suffix}", seconds=6, size=SIZE, codec_options=options, gop=25))
    assert len(video._media.keyframes) == 6


def test_recovery_points_are_read() -> None:
    recovery = bytes([6, 6, 1, 0b00010111, 0x80])  # SEI: recovery point, recovery_frame_cnt = 10
    exact = bytes([6, 6, 1, 0b11000000, 0x80])  # recovery_frame_cnt = 0
    user_data = bytes([6, 5, 255, 1]) + bytes(range(1, 129)) * 2 + bytes([6, 1, 0b11000000])
    assert _recovery_frames(recovery) == 10
    assert _recovery_frames(exact) == 0
    assert _recovery_frames(user_data) == 0
    assert _recovery_frames(bytes([6, 5, 255])) is None
    intra, predicted = bytes([0x61, 0b10001000, 0]), bytes([0x61, 0b11000000, 0])  # slice types 7 (I) and 0 (P)
    idr = bytes([0x65, 0b10001000])
    for mark in (b"\x00\x00\x01", b"\x00\x00\x00\x01"):
        assert not _is_h264_entry(mark + recovery + mark + intra, None)
        assert _is_h264_entry(mark + exact + mark + intra, None)
        assert not _is_h264_entry(mark + predicted, None)
        assert _is_h264_entry(mark + recovery + mark + idr, None) is False
    assert _is_h264_entry(len(idr).to_bytes(4, "big") + idr, 4)
    assert _is_h264_entry(b"", 4)


def test_numbers_without_an_end_are_read() -> None:
    assert _Bits(b"").exponential() >= 0
    assert _Bits(bytes(16)).exponential() >= 0
