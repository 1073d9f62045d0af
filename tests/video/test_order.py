"""Files without presentation times: every picture is shown, at its own time, however it is asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from sage_cli.video import Video
from tests.media import make_video, read_number, with_broken_packets

SIZE = (64, 48)
OPTIONS = {
    "plain": {"x264-params": "bframes=0"},
    "reordered": {"x264-params": "bframes=3:b-adapt=0"},
    "pyramid": {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:keyint=12:ref=4"},
    "open": {"x264-params": "bframes=3:b-adapt=0:open-gop=1:keyint=12:min-keyint=12"},
}


def stored(path: Path, options: dict[str, str]) -> Video:
    """A video whose packets have decoding times at most, as programs write it that copy streams."""
    if path.suffix == ".mxf" and av.__version__ < "18":
        pytest.skip("this PyAV tells the muxer no frame rate, and MXF needs one")
    source = make_video(path.with_name("source.ts"), seconds=3, size=SIZE, codec_options=options)
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        stream.time_base, stream.codec_context.framerate = Fraction(1, 25), Fraction(25)
        for number, packet in enumerate(read.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 25), 1
                packet.pts = packet.dts = number
                written.mux(packet)
    return Video(path)


@pytest.mark.parametrize("suffix", [".avi", ".mxf", ".wmv", ".mkv"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_frames_are_in_order(suffix: str, kind: str, tmp_path: Path) -> None:
    video = stored(tmp_path / f"copy{suffix}", OPTIONS[kind])
    times = [(number + 0.5) / 25 for number in range(75)]
    frames = list(video.frames(times, SIZE))
    assert [read_number(frame.image) for frame in frames] == list(range(75))
    for number in (0, 1, 2, 11, 12, 13, 14, 40, 73, 74):
        alone = next(video.frames([times[number]], SIZE))
        assert (alone.time, read_number(alone.image)) == (frames[number].time, number)
    assert [read_number(frame.image) for frame in video.frames([0.2, 1.9, 0.6, 2.8], SIZE)] == [5, 47, 15, 70]


@pytest.mark.parametrize("suffix", [".avi", ".mxf"])
def test_after_damage_times_are_right_again(suffix: str, tmp_path: Path) -> None:
    stored(tmp_path / f"whole{suffix}", OPTIONS["pyramid"])
    video = Video(with_broken_packets(tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"))
    frames = video.frames([(number + 0.5) / 25 for number in range(75)], SIZE)
    assert [read_number(frame.image) for frame in frames][-20:] == list(range(55, 75))
