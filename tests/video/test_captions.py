"""Subtitle tracks that FFmpeg does not decode."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sage_cli.video import Video, source
from sage_cli.video.captions import Line
from tests.media import make_video

HEADER = b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n"


def document(begin: int, end: int, text: str) -> bytes:
    cue = f'<p begin="{begin}s" end="{end}s">{text}</p>'
    return f'<?xml version="1.0" encoding="utf-8"?><tt xmlns="http://www.w3.org/ns/ttml"><body><div>{cue}</div></body></tt>'.encode()


def with_documents(path: Path, packets: Sequence[tuple[int, int, bytes]], mark: bytes = b"stpp") -> Video:
    """MP4 with packets of TTML, or of another format by its mark, given as start, duration and document."""
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
    path.write_bytes(data.replace(b"tx3g", mark))
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


def box(kind: bytes, data: bytes = b"") -> bytes:
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def test_webvtt_in_mp4(tmp_path: Path) -> None:
    """A cue is divided where another one begins or ends."""
    one, two = (box(b"vttc", box(b"sttg", b"line:0") + box(b"payl", text)) for text in (b"<v Ann>One &amp; all.", b"Two."))
    video = with_documents(
        tmp_path / "a.mp4", [(0, 1, box(b"vtte")), (1, 1, one), (2, 2, one + two), (4, 1, two), (5, 3, box(b"vtte"))], b"wvtt"
    )
    (track,) = video.text_tracks()
    assert list(video.text_cues(track.index)) == [(1, 4, [Line("One & all.", "Ann")]), (2, 5, [Line("Two.")])]


def test_webvtt_in_matroska(tmp_path: Path) -> None:
    """As mkvmerge writes it."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        text: Any = container.add_stream("webvtt")
        text.time_base, text.codec_context.subtitle_header = Fraction(1, 1000), HEADER
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 80000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        packet = av.Packet(b"<v Ann>One &amp; all.")
        packet.stream, packet.time_base = text, text.time_base
        packet.pts = packet.dts = packet.duration = 2000
        container.mux(sound.encode(frame))
        container.mux(packet)
    data = path.read_bytes()
    assert data.count(b"D_WEBVTT/SUBTITLES") == 1
    path.write_bytes(data.replace(b"D_WEBVTT/SUBTITLES", b"S_TEXT/WEBVTT".ljust(18, b"\0")))
    video = Video(path)
    (track,) = video.text_tracks()
    ((start, end, lines),) = video.text_cues(track.index)
    assert (start, end, lines[2:]) == (2, 4, [Line("One & all.", "Ann")])  # FFmpeg writes the two lines of a name and of settings before it


def test_data_of_an_unknown_kind_is_no_text(tmp_path: Path) -> None:
    assert with_documents(tmp_path / "a.mp4", [(0, 4, b"\x89PNG...")]).text_tracks() == []


def test_subtitles_far_apart_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures lie between two subtitles of Matroska, of more bytes than are read without finding a packet."""
    monkeypatch.setattr(source, "_MAX_WITHOUT_PACKET", 1 << 20)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        picture: Any = container.add_stream("rawvideo", rate=10)
        picture.width, picture.height, picture.pix_fmt = 320, 240, "yuv420p"
        text: Any = container.add_stream("subrip")
        text.time_base, text.codec_context.subtitle_header = Fraction(1, 1000), HEADER
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(picture.encode(frame))
            if number in (1, 38):
                packet = av.Packet(f"At {number}.".encode())
                packet.stream, packet.time_base = text, text.time_base
                packet.pts = packet.dts = number * 100
                packet.duration = 100
                container.mux(packet)
    video = Video(path)
    (track,) = video.text_tracks()
    assert [line.text for *_, lines in video.text_cues(track.index) for line in lines] == ["At 1.", "At 38."]


def test_metadata_that_flv_repeats_is_no_text(tmp_path: Path) -> None:
    make_video(tmp_path / "video.flv")
    data = (tmp_path / "video.flv").read_bytes()
    size = 11 + int.from_bytes(data[14:17], "big") + 4  # of the first tag, which is the metadata, after the header of 13 bytes
    repeated = bytearray(data[13 : 13 + size])
    repeated[4:7] = (500).to_bytes(3, "big")  # milliseconds
    (tmp_path / "live.flv").write_bytes(data + repeated)
    with av.open(tmp_path / "live.flv") as container:
        assert any(packet.stream.type == "subtitle" and packet.size for packet in container.demux())
    assert Video(tmp_path / "live.flv").text_tracks() == []
