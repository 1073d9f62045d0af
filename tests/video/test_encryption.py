"""Encrypted streams are reported one by one, and never decoded into noise."""

from __future__ import annotations

import random
import re
from pathlib import Path

import av
import numpy as np
import pytest

from sage_cli.errors import VideoError
from sage_cli.video import Video
from tests.media import make_audio, make_video, read_number, tone

SIZE = (64, 48)

# ---- MP4 -----------------------------------------------------------------------------------------------------------

# Common Encryption (ISO/IEC 23001-7), by FFmpeg's own muxer. Sizes and places of packets are as without it.
CENC = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c37" * 4}


def copied(source: Path, path: Path, options: dict[str, str]) -> Path:
    """The packets of a file in another one."""
    with av.open(str(source)) as given, av.open(str(path), "w", options=options) as output:
        streams = {stream.index: output.add_stream_from_template(stream) for stream in (*given.streams.video, *given.streams.audio)}
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return path


def encrypted(folder: Path, *parts: str, suffix: str = ".mp4") -> Path:
    """A file in which these parts are encrypted."""
    source = make_video(folder / "source.mp4", seconds=2, size=SIZE, audio="tone")
    # Both from the same packets: an encoder need not write the same bytes twice.
    files = [copied(source, folder / f"{name}{suffix}", options) for name, options in (("plain", {}), ("protected", CENC))]
    plain, protected = (bytearray(path.read_bytes()) for path in files)
    for part in {"video", "audio"} - {*parts}:
        with av.open(str(files[0])) as container:
            stream = next(stream for stream in container.streams if stream.type == part)
            places = [(packet.pos, packet.size) for packet in container.demux(stream) if packet.pos is not None and packet.size]
        for at, size in places:
            protected[at : at + size] = plain[at : at + size]
        mark, name = (b"encv", b"avc1") if part == "video" else (b"enca", b"mp4a")
        entry = protected.index(mark)
        end = protected.find(b"trak", entry)
        for old, new in ((mark, name), (b"sinf", b"free"), (b"senc", b"free"), (b"saiz", b"free"), (b"saio", b"free")):
            protected[entry:end] = protected[entry:end].replace(old, new)
    files[1].write_bytes(protected)
    return files[1]


def kinds(video: Video) -> list[tuple[str, str]]:
    return [(notice.part, notice.kind) for notice in video.notices]


@pytest.mark.parametrize("scheme", [b"cenc", b"cbcs", b"cens", b"cbc1"])
def test_an_encrypted_file_is_told_per_stream(scheme: bytes, tmp_path: Path) -> None:
    path = encrypted(tmp_path, "video", "audio")
    path.write_bytes(path.read_bytes().replace(b"schm\0\0\0\0cenc", b"schm\0\0\0\0" + scheme))
    said = r"the picture cannot be decoded \(h264, encrypted\) and the sound cannot be decoded \(aac, encrypted\)"
    with pytest.raises(VideoError, match=said) as caught:
        Video(path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_encrypted_stream_leaves_the_other(suffix: str, tmp_path: Path) -> None:
    silent = Video(encrypted(tmp_path, "audio", suffix=suffix))
    assert (silent.has_video, silent.has_audio, kinds(silent)) == (True, False, [("audio", "encrypted")])
    assert read_number(next(silent.frames([1.0])).image) == 25
    with pytest.raises(VideoError, match=r"the sound cannot be decoded \(aac, encrypted\)"):
        silent.audio()
    blind = Video(encrypted(tmp_path, "video", suffix=suffix))
    assert (blind.has_video, blind.has_audio, kinds(blind)) == (False, True, [("video", "encrypted")])
    assert np.abs(blind.audio()).max() > 0.3


# ---- other containers ----------------------------------------------------------------------------------------------


def scrambled_ts(path: Path, *parts: str) -> Path:
    """The parts' packets with random payloads and a mark for it (ISO/IEC 13818-1, transport_scrambling_control)."""
    make_video(path, seconds=2, size=SIZE, audio="tone")
    with av.open(str(path)) as container:
        pids = [stream.id for stream in container.streams if stream.type in parts]
    data, noise = bytearray(path.read_bytes()), random.Random(1)
    for at in range(0, len(data), 188):
        if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF in pids:
            start = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
            data[at + 3] |= 0x80
            data[start : at + 188] = noise.randbytes(at + 188 - start)
    path.write_bytes(data)
    return path


def test_scrambled_broadcasts(tmp_path: Path) -> None:
    """FFmpeg drops their packets, as if the stream were empty."""
    silent = Video(scrambled_ts(tmp_path / "silent.ts", "audio"))
    assert (silent.has_video, silent.has_audio, kinds(silent)) == (True, False, [("audio", "encrypted")])
    blind = Video(scrambled_ts(tmp_path / "blind.ts", "video"))
    assert (blind.has_video, blind.has_audio, kinds(blind)) == (False, True, [("video", "encrypted")])
    with pytest.raises(VideoError, match=r"h264, encrypted.*aac, encrypted"):
        Video(scrambled_ts(tmp_path / "neither.ts", "video", "audio"))


@pytest.mark.parametrize(("part", "numbers"), [("video", rb"[\xe0-\xef]"), ("audio", rb"[\xc0-\xdf]"), ("audio", rb"\xbd")])
def test_scrambled_dvds(part: str, numbers: bytes, tmp_path: Path) -> None:
    """Half of the sectors of a DVD's film; private streams hold AC-3."""
    codec = "ac3" if numbers == rb"\xbd" else "mp2"
    path = make_video(tmp_path / "a.vob", seconds=4, size=SIZE, codec="mpeg2video", audio="tone", audio_codec=codec)
    assert Video(path).notices == ()
    count = iter(range(10_000))
    header = re.compile(rb"(\x00\x00\x01" + numbers + rb"..)([\x80-\xbf])", re.DOTALL)
    path.write_bytes(header.sub(lambda match: match[1] + bytes([match[2][0] | (next(count) % 2) << 4]), path.read_bytes()))
    assert (part, "encrypted") in kinds(Video(path))


def ebml(mark: str, *content: bytes) -> bytes:
    body = b"".join(content)
    return bytes.fromhex(mark) + (len(body) | 1 << 56).to_bytes(8, "big") + body


def test_encrypted_webm(tmp_path: Path) -> None:
    """Opus decodes noise into noise. Its track says that it is encrypted (Matroska, ContentEncryption)."""
    path = make_audio(tmp_path / "a.webm", tone(2.0), codec="libopus")
    data = path.read_bytes()
    tracks = data.rindex(b"\x16\x54\xae\x6b")
    entry = data.index(b"\xae", tracks + 5)

    def sized(at: int) -> tuple[int, int]:
        """The number at a place, and where it ends (Matroska's integers of variable length)."""
        length = 9 - data[at].bit_length()
        return int.from_bytes(data[at : at + length], "big") & (1 << 7 * length) - 1, at + length

    (size, body), (all_size, all_body) = sized(entry + 1), sized(tracks + 4)
    encryption = ebml("5035", ebml("47e1", b"\5"), ebml("47e2", b"0123456789abcdef"))
    encoding = ebml("6d80", ebml("6240", ebml("5032", b"\1"), ebml("5033", b"\1"), encryption))
    marked = ebml("1654ae6b", ebml("ae", data[body : body + size], encoding))
    segment = data.index(b"\x18\x53\x80\x67") + 4
    whole = bytes([1]) + b"\xff" * 7  # of unknown size
    path.write_bytes(data[:segment] + whole + data[segment + 8 : tracks] + marked + data[all_body + all_size :])
    with pytest.raises(VideoError, match=r"the sound cannot be decoded \(opus, encrypted\)"):
        Video(path)


@pytest.mark.parametrize("mark", ["fbb31122 23bd d211 b4b7 00a0c955fc6e", "14e68a29 2226 174c b935 dae07ee9289c"])
def test_protected_asf(mark: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.wmv", seconds=1, size=SIZE, codec="wmv2", audio="tone", audio_codec="libmp3lame")
    data = bytearray(path.read_bytes())
    protection = bytes.fromhex(mark) + (40).to_bytes(8, "little") + bytes(16)
    size, count = (int.from_bytes(data[at:end], "little") for at, end in ((16, 24), (24, 28)))
    data[16:28] = (size + len(protection)).to_bytes(8, "little") + (count + 1).to_bytes(4, "little")
    data[size:size] = protection
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"wmv2, encrypted.*mp3, encrypted"):
        Video(path)
