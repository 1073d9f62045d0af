"""Reading: errors and changed files are reported, no other file is opened, and it can be stopped."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
import pytest

from sage_cli.errors import MediaReadError, VideoError
from sage_cli.hardware.waiting import Stopped
from sage_cli.video import Video, source
from sage_cli.video.source import MediaFile, Source
from tests.media import make_audio, make_video, read_number, tone

SIZE = (64, 48)
FORMATS = [".mp4", ".mkv", ".webm", ".ts", ".mpg", ".avi", ".flv", ".wav", ".flac", ".mp3", ".opus"]


def make(path: Path) -> Path:
    if path.suffix in (".wav", ".flac", ".mp3", ".opus"):
        return make_audio(path, tone(8.0), codec="libopus" if path.suffix == ".opus" else None)
    codec = {".webm": "libvpx-vp9", ".mpg": "mpeg2video", ".avi": "mpeg4"}.get(path.suffix, "libx264")
    return make_video(path, seconds=8, size=(160, 120), codec=codec, audio="tone", audio_codec="mp2" if path.suffix == ".mpg" else None)


def use(path: Path) -> None:
    video = Video(path)
    if video.has_audio:
        video.audio()
    if video.has_video:
        list(video.frames([index / 5 for index in range(40)], SIZE))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_read_error_is_not_the_end_of_the_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / f"disk{suffix}")
    broken = path.stat().st_size // 2
    video = Video(path)
    original = Source.read

    class Failing:
        """The file of a disk with a bad sector in the middle."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def read(self, size: int) -> bytes:
            if self._file.tell() <= broken < self._file.tell() + size:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            data: bytes = self._file.read(size)
            return data

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def read(self: Source, size: int) -> bytes:
        if not isinstance(self._file, Failing):
            self._file = Failing(self._file)  # type: ignore[assignment]
        return original(self, size)

    monkeypatch.setattr(Source, "read", read)
    said = rf"cannot read .*disk\{suffix}: Input/output error \(at byte \d+ of \d+\)"
    for reading in (lambda: Video(path), lambda: video.audio()):
        with pytest.raises(MediaReadError, match=said) as caught:
            reading()
        assert caught.value.exit_code == 4
    if video.has_video:
        with pytest.raises(MediaReadError, match=said):
            list(video.frames([index / 25 for index in range(200)], SIZE))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".wav", ".mp3"])
def test_a_file_that_is_cut_while_it_is_read(suffix: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"cut{suffix}")
    size = path.stat().st_size
    blocks = Video(path).audio_blocks(seconds=0.1)
    next(blocks)
    os.truncate(path, size // 2)
    with pytest.raises(MediaReadError, match=r"was cut from \d+ to \d+ bytes|was changed while"):
        list(blocks)


def overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replaced(path: Path) -> None:
    other = make_audio(path.with_name("other.wav"), tone(3.0))
    other.replace(path)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [overwritten, replaced, removed])
def test_a_file_that_is_another_later_is_noticed(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4")
    video = Video(path)
    change(path)
    for reading in (video.audio, lambda: next(video.frames([1.0])), lambda: video.clip(0, 1, tmp_path / "clip.mp4")):
        with pytest.raises(MediaReadError, match=r"was changed while it was in use|cannot open"):
            reading()
    assert not (tmp_path / "clip.mp4").exists()


def test_a_new_name_or_mode_is_no_change(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4")
    video = Video(path)
    os.utime(path, (1, 1))
    path.chmod(0o400)
    assert read_number(next(video.frames([1.0])).image) == 25


def test_streams_that_turn_up_late_end_nothing(tmp_path: Path) -> None:
    """FLV: tags of sound in a file that began without any."""
    silent = make_video(tmp_path / "silent.flv", seconds=8, size=SIZE).read_bytes()
    sound = make_video(tmp_path / "sound.flv", seconds=8, size=SIZE, audio="tone").read_bytes()
    (path := tmp_path / "late.flv").write_bytes(silent + sound[13:])  # without the header
    video = Video(path)
    assert video.duration >= 8
    assert read_number(next(video.frames([7.1])).image) == pytest.approx(177, abs=2)


@pytest.mark.parametrize("suffix", [".nut", ".mp4", ".mkv"])
def test_a_file_that_leads_to_places_before_its_beginning(suffix: str, tmp_path: Path) -> None:
    path = make_video(tmp_path / f"a{suffix}", seconds=4, size=SIZE, codec="mpeg4", audio="tone")
    data = path.read_bytes()
    for length in (len(data) // 3, len(data) // 2, len(data) - 100):
        (cut := tmp_path / f"{length}{suffix}").write_bytes(data[:length])
        with suppress(VideoError):
            use(cut)
    with path.open("rb"):
        source = Source(path)
        assert source.seek(-5) == -errno.EINVAL
        assert source.seek(5) == 5
        source.close()


def test_impossible_sizes_are_damage_and_no_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """IVF: a frame of 4 GB in the middle."""
    path = make_video(tmp_path / "a.ivf", seconds=4, size=SIZE, codec="libvpx", bframes=0)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None and packet.size]
    data = bytearray(path.read_bytes())
    place = places[50]
    assert place is not None
    data[place : place + 4] = b"\xf0\xff\xff\xff"
    path.write_bytes(data)
    video = Video(path)
    assert 1.5 < video.duration < 4.1
    monkeypatch.setattr("sage_cli.errors._AMPLE", 1 << 62)
    with pytest.raises(MemoryError, match="not enough memory to read"):
        Video(path)


# ---- nothing but the file ------------------------------------------------------------------------------------------

PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{file}\n#EXT-X-ENDLIST\n",
    "FFmpeg concat": "ffconcat version 1.0\nfile '{file}'\n",
    "DASH": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation id="1">'
    "<BaseURL>{file}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "SDP": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".mpd", ".sdp", ".txt", ""])
@pytest.mark.parametrize("named", ["itself", "other", "network"])
def test_playlists_are_refused_by_content(
    kind: str, suffix: str, named: str, tmp_path: Path, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "open", None)  # FFmpeg would try again and again to get what is named
    path = tmp_path / f"list{suffix}"
    shutil.copy(clip_path, tmp_path / "clip.mp4")
    file = {"itself": path.name, "other": "clip.mp4", "network": "http://127.0.0.1:9/a.ts"}[named]
    path.write_text(PLAYLISTS[kind].format(file=file))
    with pytest.raises(VideoError, match=rf"is a playlist \({kind}\), not media; give one of the files it names"):
        Video(path)


def test_nothing_in_a_file_opens_a_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        movie = make_video(tmp_path / "a.mov", seconds=1, size=SIZE)
        data = movie.read_bytes()
        # A QuickTime movie whose data reference is an address instead of the file itself.
        at = data.index(b"alis" if b"alis" in data else b"url ")
        movie.write_bytes(data[:at] + b"url \0\0\0\0" + f"http://127.0.0.1:{port}/a\0".encode() + data[at + 8 :])
        texts = [text.format(file=f"{scheme}://127.0.0.1:{port}/a.ts") for text in PLAYLISTS.values() for scheme in ("http", "tcp", "rtmp")]
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.mp4").write_text(text)
        for path in tmp_path.iterdir():
            with suppress(VideoError):
                use(path)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("suffix", [".txt", ".nfo", ".srt", ".ffmeta"])
def test_text_is_no_video(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"notes{suffix}"
    path.write_text(";FFMETADATA1\ntitle=x\n" if suffix == ".ffmeta" else "It was a dark and stormy night.\n" * 100)
    with pytest.raises(VideoError):
        Video(path)


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["2024-01-01T12:00:00.mp4", "http:.mp4", "pipe:0", "-i.mp4", "a b%d.mp4", "caf\udce9.mp4", "\N{PILE OF POO}.mp4", "x" * 200 + ".mp4"],
)
def test_names_mean_nothing(name: str, tmp_path: Path, clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        shutil.copy(clip_path, tmp_path / name)
    except OSError:
        pytest.skip("the file system has no such names")
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        video = Video(path)
        assert read_number(next(video.frames([1.0])).image) == 25
        assert len(video.audio(0, 1)) == 16000


# ---- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".avi", ".mkv", ".ts", ".mp3", ".flac", ".h264", ".mp4"])
def test_a_tail_of_zeros_is_given_up(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MAX_WITHOUT_PACKET", 1 << 20)
    path = tmp_path / f"tail{suffix}"
    if suffix == ".h264":
        make_video(path, seconds=2, size=SIZE)
    else:
        make(path)
    length = Video(path).duration
    os.truncate(path, 4 << 30)  # sparse
    began = time.process_time()
    with MediaFile(path) as file:
        read = sum(packet.size for packet in file.packets(0) if packet.size)
    assert read < 64 << 20 or suffix in (".wav", ".ts")
    assert time.process_time() - began < 20
    assert length > 1


@pytest.mark.parametrize("suffix", [".mpg", ".nut", ".caf", ".ts"])
def test_what_is_found_in_vain_for_streams_ends_no_recording(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some formats are searched for streams far beyond the packets of those that were found."""
    monkeypatch.setattr(source, "_MAX_WITHOUT_PACKET", 1 << 20)
    path = tmp_path / f"tail{suffix}"
    if suffix == ".caf":
        make_audio(path, tone(1.0), codec="pcm_s16be")
    else:
        make_video(path, seconds=1, size=SIZE, codec="mpeg2video", audio="tone", audio_codec="mp2")
    length = Video(path).duration
    os.truncate(path, 6 << 20)
    assert Video(path).duration == pytest.approx(length, abs=0.1)


@pytest.mark.parametrize("suffix", [".caf", ".nut", ".mpg"])
def test_to_open_a_file_its_tail_of_zeros_is_not_gone_through(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes each twelve of them for a chunk of CAF, and a file is opened several times."""
    path = tmp_path / f"tail{suffix}"
    if suffix == ".caf":
        make_audio(path, tone(1.0), codec="pcm_s16be")
    else:
        make_video(path, seconds=1, size=SIZE, codec="mpeg2video", audio="tone", audio_codec="mp2")
    length, most = Video(path).duration, 1 << 20
    monkeypatch.setattr(source, "_SEARCHED", most)
    os.truncate(path, 16 << 20)
    read, original = 0, Source.read

    def counted(self: Source, size: int) -> bytes:
        nonlocal read
        data = original(self, size)
        read += len(data)
        return data

    monkeypatch.setattr(Source, "read", counted)
    MediaFile(path).close()
    assert read < 3 * most
    assert Video(path).duration == pytest.approx(length, abs=0.1)


def test_sound_that_begins_behind_zeros_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPEG-PS lists no streams: they are searched for in its beginning."""
    monkeypatch.setattr(source, "_SEARCHED", 1 << 20)
    silent = make_video(tmp_path / "silent.mpg", seconds=1, size=SIZE, codec="mpeg2video").read_bytes()
    path = make_video(tmp_path / "late.mpg", seconds=1, size=SIZE, codec="mpeg2video", audio="tone", audio_codec="mp2")
    path.write_bytes(silent + bytes(3 << 20) + path.read_bytes())
    video = Video(path)
    assert video.has_audio
    assert np.abs(video.audio()).max() > 0.3


def test_zeros_behind_wav_are_not_chunks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes each eight of them for a chunk, and asks for the size of the file."""
    path = make_audio(tmp_path / "tail.wav", tone(1.0))
    os.truncate(path, 16 << 20)
    seeks, original = 0, Source.seek

    def seek(self: Source, offset: int, whence: int = os.SEEK_SET) -> int:
        nonlocal seeks
        seeks += 1
        return original(self, offset, whence)

    monkeypatch.setattr(Source, "seek", seek)
    with MediaFile(path) as file:
        assert sum(packet.size for packet in file.packets(0)) == 2 * 48000
        assert not file.source.gave_up
    assert seeks < 400_000


def test_black_that_is_zeros_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MAX_WITHOUT_PACKET", 1 << 20)
    path = tmp_path / "black.avi"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "bgr24"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 200 * (number == 19), np.uint8), format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
    video = Video(path)
    assert (video.duration, video.notices) == (2, ())
    assert next(video.frames([1.95], SIZE)).image.mean() == pytest.approx(200, abs=2)


def test_a_long_recording_without_an_index_can_be_seeked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As browsers write it. To seek, FFmpeg reads all that comes before, and its packets are not seen."""
    monkeypatch.setattr(source, "_MAX_WITHOUT_PACKET", 1 << 20)
    noise = np.random.default_rng(0)
    options: dict[str, Any] = {"gop": 5, "codec_options": {"preset": "ultrafast"}, "container_options": {"live": "1"}}
    path = make_video(
        tmp_path / "a.mkv", seconds=3, size=(320, 240), painter=lambda *_: noise.integers(0, 256, (240, 320, 3), np.uint8), **options
    )
    assert path.stat().st_size > 2 << 20
    video, read, original = Video(path), 0, MediaFile.packets

    def packets(self: MediaFile, *indices: int) -> Iterator[Any]:
        nonlocal read
        for packet in original(self, *indices):
            read += 1
            yield packet

    monkeypatch.setattr(MediaFile, "packets", packets)
    assert next(video.frames([2.8], SIZE)).time == pytest.approx(2.8)
    assert read < 10


def test_reading_stops_when_it_is_told_to(tmp_path: Path) -> None:
    path = make(tmp_path / "a.ts")
    stop = Event()
    with MediaFile(path, stop=stop) as file:
        packets = file.packets(0)
        next(packets)
        stop.set()
        with pytest.raises(Stopped):
            list(packets)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_while_a_file_is_opened(kind: signal.Signals, tmp_path: Path) -> None:
    path = make_audio(tmp_path / "long.wav", tone(1.0))
    os.truncate(path, 4 << 40)  # hashing takes half an hour
    program = (
        "import signal, sys; from sage_cli.video import Video\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "print('go', flush=True)\n"
        "Video(sys.argv[1])"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    time.sleep(0.5)
    child.send_signal(kind)
    _, complaint = child.communicate(timeout=300)
    assert child.returncode == (143 if kind == signal.SIGTERM else -signal.SIGINT), complaint
