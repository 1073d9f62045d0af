"""Edit lists and chapters."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.stream import VideoStream

from sage_cli.cli.marks import edl
from sage_cli.video import Video


@pytest.mark.parametrize(
    ("fps", "start", "end"),
    [
        (25.0, "01:00:00:00", "01:00:01:00"),
        (30000 / 1001, "00:59:56:12", "00:59:57:12"),
        (24000 / 1001, "00:59:56:10", "00:59:57:10"),
        (60000 / 1001, "00:59:56:24", "00:59:57:24"),
    ],
)
def test_an_edit_list_counts_frames(fps: float, start: str, end: str) -> None:
    _, _, event, name = edl([(3600.0, 3601.001)], "my\ntalk.mp4", fps).splitlines()
    assert name == "* FROM CLIP NAME: my talk.mp4"
    assert event.split()[4:] == [start, end, "00:00:00:00", "00:00:01:00"]


@pytest.mark.parametrize(
    ("timecode", "fps", "at", "source"),
    [
        ("10:00:00;00", 30000 / 1001, 0.0, "10:00:00;00"),
        ("10:00:00;00", 30000 / 1001, 3600.0, "11:00:00;00"),  # drop-frame time keeps up with the clock
        ("10:00:59;29", 30000 / 1001, 1001 / 30000, "10:01:00;02"),  # two numbers are skipped
        ("10:09:59;29", 30000 / 1001, 1001 / 30000, "10:10:00;00"),  # but not in a tenth minute
        ("10:00:59.59", 60000 / 1001, 1001 / 60000, "10:01:00;04"),
        ("23:59:59:24", 25.0, 0.04, "00:00:00:00"),
        ("01:00:00:00", 24000 / 1001, 1001 / 1000, "01:00:01:00"),
        ("01:00:00;00", 25.0, 1.0, "01:00:01:00"),  # there is no drop-frame time at 25
        ("01.00", 25.0, 1.0, "00:00:01:00"),
    ],
)
def test_source_times_of_an_edit_list_count_from_the_timecode(timecode: str, fps: float, at: float, source: str) -> None:
    _, mode, event, _ = edl([(at, at + 0.5)], "talk.mov", fps, timecode).splitlines()
    dropped = ";" in source
    assert mode == f"FCM: {'DROP FRAME' if dropped else 'NON-DROP FRAME'}"
    assert event.split()[4] == source
    assert event.split()[6] == ("00:00:00;00" if dropped else "00:00:00:00")


@pytest.mark.parametrize(("name", "timecode"), [("a.mov", "10:00:00;00"), ("a.mkv", "01:00:00:00"), ("a.mp4", "")])
def test_the_timecode_of_a_file(tmp_path: Path, name: str, timecode: str) -> None:
    with av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream("mpeg4", rate=Fraction(30000, 1001))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if timecode:
            stream.metadata["timecode"] = timecode
        output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode(None))
    assert Video(tmp_path / name).timecode == timecode
