"""Subtitle tracks that FFmpeg does not decode."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sage_cli.video import Video
from sage_cli.video.captions import Line

HEADER = b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n"


def document(begin: int, end: int, text: str) -> bytes:
    cue = f'<p begin="{begin}s" end="{end}s">{text}</p>'
    return f'<?xml version="1.0" encoding="utf-8"?><tt xmlns="http://www.w3.org/ns/ttml"><body><div>{cue}</div></body></tt>'.encode()


def with_documents(path: Path, packets: Sequence[tuple[int, int, bytes]]) -> Video:
    """MP4 with packets of TTML, given as start, duration and document."""
    with av.open(str(path), "w") as container:
        picture: Any = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        text: Any = container.add_stream("mov_text")
        text.time_base, text.codec_context.subtitle_header = Fraction(1, 1000), HEADER
        for number in range(90):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
        for start, seconds, data in packets:
            packet = av.Packet(data)
            packet.stream, packet.time_base = text, text.time_base
            packet.pts = packet.dts = start * 1000
            packet.duration = seconds * 1000
            container.mux(packet)
    data = path.read_bytes()
    assert data.count(b"tx3g") == 1
    path.write_bytes(data.replace(b"tx3g", b"stpp"))
    return Video(path)


@pytest.mark.parametrize(
    "packets",
    [
        [(0, 4, document(1, 2, "One &amp; all.")), (4, 4, document(5, 6, "Two."))],  # from the beginning of the track
        [(0, 4, document(1, 2, "One &amp; all.")), (4, 4, document(1, 2, "Two."))],  # of the packet
    ],
)
def test_ttml_in_mp4(packets: list[tuple[int, int, bytes]], tmp_path: Path) -> None:
    video = with_documents(tmp_path / "a.mp4", packets)
    (track,) = video.text_tracks()
    assert list(video.text_cues(track.index)) == [(1, 2, [Line("One & all.")]), (5, 6, [Line("Two.")])]


def test_data_of_an_unknown_kind_is_no_text(tmp_path: Path) -> None:
    assert with_documents(tmp_path / "a.mp4", [(0, 4, b"\x89PNG...")]).text_tracks() == []
