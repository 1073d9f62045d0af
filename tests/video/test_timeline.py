"""Files whose timestamps restart, jump or are damaged have the duration they play, with all parts decoded."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from sage_cli.video import SAMPLE_RATE, FrameTimeCache, Video
from sage_cli.video.runs import Run
from sage_cli.video.runs import decide as decide_runs
from sage_cli.video.timeline import _Track
from tests.media import make_audio, make_video, numbered, read_number, tone

SIZE = (64, 48)


def pitches(sound: Any, step: float = 0.5) -> list[int]:
    """The loudest pitch of each stretch of ``step`` seconds, to 20 Hz; 0 for silence."""
    found = []
    length = round(step * SAMPLE_RATE)
    for at in range(0, len(sound) - length + 1, length):
        part = sound[at : at + length]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(length)))
        found.append(0 if np.abs(part).max() < 0.05 else 20 * round(int(np.argmax(spectrum)) / step / 20))
    return found


def parts(folder: Path, suffix: str, **options: Any) -> tuple[Path, Path]:
    """Two recordings of 3 s: frames 0 to 74 with a tone of 400 Hz, frames 75 to 149 with one of 800 Hz."""
    files = []
    for number, hertz in enumerate((400, 800)):
        painter = (lambda _time, index: numbered(index + 75, SIZE)) if number else None
        path = folder / f"part{number}{suffix}"
        make_video(path, seconds=3, size=SIZE, painter=painter, audio=tone(3.0, hertz=hertz), **options)
        files.append(path)
    return files[0], files[1]


def joined(folder: Path, suffix: str, **options: Any) -> Path:
    one, other = parts(folder, suffix, **options)
    path = folder / f"joined{suffix}"
    path.write_bytes(one.read_bytes() + other.read_bytes())
    return path


JOINED: dict[str, dict[str, Any]] = {
    ".ts": {"bframes": 2},
    ".mpg": {"codec": "mpeg2video", "audio_codec": "mp2", "bframes": 2},
    ".vob": {"codec": "mpeg2video", "audio_codec": "ac3"},
    ".webm": {"codec": "libvpx-vp9"},
    ".mkv": {"bframes": 2},
}


@pytest.mark.parametrize("suffix", JOINED)
def test_joined_recordings_are_seen_and_heard_whole(suffix: str, tmp_path: Path) -> None:
    video = Video(joined(tmp_path, suffix, **JOINED[suffix]))
    assert video.duration == pytest.approx(6.0, abs=0.15)
    assert [notice.kind for notice in video.notices] == ["joined"]
    times = [0.5 + 0.5 * step for step in range(11)]
    numbers = [read_number(frame.image) for frame in video.frames(times, SIZE)]
    assert np.abs(np.array(numbers) - [round(time * 25) for time in times]).max() <= 3
    assert numbers == sorted(set(numbers))
    for time, number in zip(times[::-3], numbers[::-3], strict=True):  # each by itself, the last one first
        assert read_number(next(video.frames([time], SIZE)).image) == number
    heard = pitches(video.audio(0.5, 5.5))
    assert heard[:4] == [400] * 4
    assert heard[-4:] == [800] * 4
    assert pitches(video.audio(4.0, 5.0)) == [800] * 2
    assert 800 not in pitches(video.audio(1.0, 2.5))


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".mov", ".wav", ".aiff", ".asf", ".wtv", ".ivf"])
def test_a_recording_that_follows_and_cannot_be_reached_is_told(suffix: str, tmp_path: Path) -> None:
    """FFmpeg ends with the first of several such files."""
    if suffix in (".wav", ".aiff"):
        one = make_audio(tmp_path / f"one{suffix}", tone(3.0), codec="pcm_s16be" if suffix == ".aiff" else None)
        (path := tmp_path / f"joined{suffix}").write_bytes(one.read_bytes() * 2)
    elif suffix == ".ivf":
        one = make_video(tmp_path / "one.ivf", seconds=3, size=SIZE, codec="libvpx-vp9")
        other = make_video(tmp_path / "other.ivf", seconds=1, size=(80, 60), codec="libvpx-vp9")
        (path := tmp_path / "joined.ivf").write_bytes(one.read_bytes() + other.read_bytes())
    else:
        mpeg2: dict[str, Any] = {"codec": "mpeg2video", "audio_codec": "mp2"}
        path = joined(tmp_path, suffix, **mpeg2 if suffix in (".asf", ".wtv") else {})
        one = tmp_path / f"part0{suffix}"
    assert Video(one).notices == ()
    video = Video(path)
    assert video.duration == pytest.approx(3.0, abs=0.2)
    assert [notice.text for notice in video.notices] == [
        "only the first 3 s are read: another recording follows in the file; give the parts one by one"
    ]


@pytest.mark.parametrize("flags", ["", "+default_base_moof"])
def test_fragments_that_follow_and_are_misread_are_told(flags: str, tmp_path: Path) -> None:
    """FFmpeg takes their samples from the first file, or drops them, as their times are not later."""
    path = joined(tmp_path, ".mp4", container_options={"movflags": f"frag_keyframe+empty_moov{flags}"})
    video = Video(path)
    assert video.duration == pytest.approx(3.0, abs=0.1)
    assert [notice.text for notice in video.notices] == [
        "only the first 3 s are read: another recording follows in the file; give the parts one by one"
    ]
    assert pitches(video.audio(0.5, 2.5)) == [400] * 4
    times = [0.5, 1.5, 2.5]
    assert [round(read_number(frame.image) / 25, 1) for frame in video.frames(times, SIZE)] == pytest.approx(times, abs=0.2)


def test_fragments_that_go_on_after_a_second_header_are_read(tmp_path: Path) -> None:
    """As in a saved stream: each stretch of it begins with the header."""
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = make_video(tmp_path / "a.mp4", seconds=3, size=SIZE, audio=tone(3.0), container_options=options)
    data = path.read_bytes()
    first, later = data.index(b"moof") - 4, data.rindex(b"moof") - 4
    path.write_bytes(data[:later] + data[:first] + data[later:])
    video = Video(path)
    assert video.duration == pytest.approx(3.0, abs=0.1)
    assert video.notices == ()
    assert read_number(next(video.frames([2.9], SIZE)).image) >= 70


def test_joined_avi_is_played_whole_and_not_damaged(tmp_path: Path) -> None:
    """The second file's header holds padding of zeros."""
    video = Video(joined(tmp_path, ".avi", codec="mpeg4"))
    assert video.duration == pytest.approx(6.0, abs=0.2)
    assert video.notices == ()
    assert pitches(video.audio(0.5, 5.5), 1.0)[::4] == [400, 800]


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts", ".mp4"])
def test_a_late_first_time_is_no_loss(suffix: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"codec": "libvpx-vp9"} if suffix == ".webm" else {"bframes": 2}
    if suffix == ".mp4":
        options["container_options"] = {"movflags": "frag_keyframe+empty_moov", "avoid_negative_ts": "disabled"}
    video = Video(make_video(tmp_path / f"late{suffix}", seconds=3, size=SIZE, start=9000, audio=tone(3.0), audio_start=9000, **options))
    assert video.duration == pytest.approx(3.0, abs=0.1)
    assert video.notices == ()


def test_fragments_that_begin_late_are_whole(tmp_path: Path) -> None:
    """Of a live stream, whose times count from its start."""
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = make_video(tmp_path / "live.mp4", seconds=12, size=SIZE, gop=25, container_options=options)
    data = path.read_bytes()
    fragments = [place.start() - 4 for place in re.finditer(rb"moof", data)]
    path.write_bytes(data[: fragments[0]] + data[fragments[8] :])
    video = Video(path)
    assert video.duration == pytest.approx(4.5, abs=0.5)
    assert video.notices == ()


def test_sound_that_begins_late_is_found(tmp_path: Path) -> None:
    """MPEG-PS lists no streams: they are there once their first packet comes."""
    sound: dict[str, Any] = {"audio": tone(8.0), "audio_codec": "mp2", "audio_start": 32.0}
    video = Video(make_video(tmp_path / "late.mpg", seconds=40, size=SIZE, codec="mpeg2video", gop=25, **sound))
    assert video.has_audio
    assert np.abs(video.audio(34.0, 36.0)).max() > 0.3


@pytest.mark.parametrize("suffix", [".opus", ".ogg", ".flac", ".mp3", ".aac"])
def test_joined_sound_is_heard_whole(suffix: str, tmp_path: Path) -> None:
    codec = {".opus": "libopus", ".ogg": "flac", ".aac": "aac"}.get(suffix)
    data = b""
    for hertz in (400, 800):
        data += make_audio(tmp_path / f"part{suffix}", tone(4.0, hertz=hertz), codec=codec).read_bytes()
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(data)
    video = Video(path)
    assert video.duration == pytest.approx(8.0, abs=0.6 if suffix == ".flac" else 0.2)  # FFmpeg drops some FLAC frames at the seam
    heard = pitches(video.audio())
    assert heard[1:7] == [400] * 6
    assert heard[9:14] == [800] * 5
    assert pitches(video.audio(5.0, 7.0)) == [800] * 4


def test_a_clip_and_cached_times_are_on_the_same_clock(tmp_path: Path) -> None:
    path = joined(tmp_path, ".ts", bframes=2)
    times = FrameTimeCache(tmp_path / "times")
    first = [frame.time for frame in Video(path, cache=times).frames([1.0, 4.0, 5.0], SIZE)]
    again = Video(path, cache=times).frames([1.0, 4.0, 5.0], SIZE)
    assert again.method == "cached"
    frames = list(again)
    assert [frame.time for frame in frames] == first
    assert [read_number(frame.image) for frame in frames] == pytest.approx([25, 100, 125], abs=2)
    clip = Video(Video(path).clip(2.5, 4.5, tmp_path / "clip.mp4"))
    assert clip.duration == pytest.approx(2.0, abs=0.1)
    assert [read_number(frame.image) for frame in clip.frames([0.2, 1.6], SIZE)] == pytest.approx([67, 102], abs=2)
    assert set(pitches(clip.audio(0.7, 1.7))) == {800}


def test_keyframes_of_joined_recordings_come_from_both(tmp_path: Path) -> None:
    video = Video(joined(tmp_path, ".ts"))
    reader = video.frames([0.5 * step for step in range(12)], SIZE, sampling="keyframe")
    numbers = [read_number(frame.image) for frame in reader]
    assert reader.method == "keyframe"
    assert numbers == sorted(set(numbers))
    assert min(numbers) < 20
    assert max(numbers) > 120


def stamped(data: bytes, packet: int, add: float) -> bytes:
    """An MPEG-TS with ``add`` seconds added to all time stamps from a TS packet on: PCR, PTS and DTS (ISO/IEC 13818-1)."""
    ticks = round(add * 90000)
    out = bytearray(data)

    def moved(at: int) -> None:
        old = (out[at] >> 1 & 7) << 30 | out[at + 1] << 22 | (out[at + 2] >> 1) << 15 | out[at + 3] << 7 | out[at + 4] >> 1
        new = (old + ticks) % (1 << 33)
        mark = out[at] & 0xF0
        out[at : at + 5] = bytes(
            [mark | (new >> 30) << 1 | 1, new >> 22 & 255, (new >> 15 & 127) << 1 | 1, new >> 7 & 255, (new & 127) << 1 | 1]
        )

    for start in range(packet * 188, len(out), 188):
        begins, control = out[start + 1] & 0x40, out[start + 3] >> 4 & 3
        payload = start + 4
        if control & 2:
            length = out[payload]
            if length and out[payload + 1] & 0x10:
                pcr = int.from_bytes(out[payload + 2 : payload + 6], "big") << 1 | out[payload + 6] >> 7
                low = out[payload + 6] & 0x7F
                pcr = (pcr + ticks) % (1 << 33)
                out[payload + 2 : payload + 6] = (pcr >> 1).to_bytes(4, "big")
                out[payload + 6] = (pcr & 1) << 7 | low
            payload += 1 + length
        if begins and control & 1 and out[payload : payload + 3] == b"\x00\x00\x01":
            flags = out[payload + 7] >> 6
            if flags & 2:
                moved(payload + 9)
            if flags & 1:
                moved(payload + 14)
    return bytes(out)


@pytest.mark.parametrize("jump", [94443.0, 1000.0, 40.0, -2.0, -3000.0])
def test_a_jump_of_the_clock_makes_no_hours(jump: float, tmp_path: Path) -> None:
    path = make_video(tmp_path / "jump.ts", seconds=6, size=SIZE, bframes=2, audio=tone(6.0, hertz=400), start=5000.0, audio_start=5000.0)
    with av.open(str(path)) as container:
        middle = next(packet.pos for packet in container.demux(video=0) if packet.is_keyframe and packet.pts * packet.time_base > 5003)
    assert middle is not None
    path.write_bytes(stamped(path.read_bytes(), middle // 188, jump))
    video = Video(path)
    assert video.duration == pytest.approx(6.0, abs=0.2)
    numbers = [read_number(frame.image) for frame in video.frames([0.5 + 0.5 * step for step in range(11)], SIZE)]
    assert np.abs(np.array(numbers) - 12.5 * np.arange(1, 12)).max() <= 5
    heard = pitches(video.audio(0.5, 5.5))
    assert heard.count(400) >= 9


@pytest.mark.parametrize("bit", [31, 23, 18, 12])
@pytest.mark.parametrize("tag", [8, 9])
def test_a_flipped_bit_in_a_time_stamp_is_not_believed(bit: int, tag: int, tmp_path: Path) -> None:
    """FLV: one time stamp in the middle of the file, of sound (8) or of the picture (9), is milliseconds to days off."""
    path = make_video(tmp_path / "flip.flv", seconds=6, size=SIZE, audio=tone(6.0, hertz=400))
    data, at, places = bytearray(path.read_bytes()), 13, []
    while at + 11 < len(data):
        if data[at] == tag:
            places.append(at + 4)
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    place = places[len(places) // 2]
    stamp = int.from_bytes(data[place : place + 3], "big") | data[place + 3] << 24
    stamp ^= 1 << bit
    data[place : place + 4] = (stamp & 0xFFFFFF).to_bytes(3, "big") + bytes([stamp >> 24])
    path.write_bytes(data)
    video = Video(path)
    assert video.duration == pytest.approx(6.0, abs=0.2 if bit > 12 else 5)
    numbers = [read_number(frame.image) for frame in video.frames([1.0, 2.0, 4.5, 5.5], SIZE)]
    assert np.abs(np.array(numbers) - [25, 50, 112, 137]).max() <= 3
    assert pitches(video.audio(4.0, 5.5)) == [400] * 3


def test_a_length_that_wrapped_around_is_not_believed() -> None:
    codec = SimpleNamespace(name="")
    track = _Track(SimpleNamespace(time_base=Fraction(1, 8000), codec_context=codec), None, False, Fraction(1, 8))
    assert track.length((1 << 31) - 5, 13 * 8000) == 1000
    assert track.length(2000, 13 * 8000) == 2000
    still = _Track(SimpleNamespace(time_base=Fraction(1, 1000), codec_context=codec), Fraction(1800), False, Fraction(1, 25))
    assert still.length(1_800_000, 0) == 1_800_000  # the header says the same


def test_a_gap_in_a_format_with_one_clock_is_a_gap(tmp_path: Path) -> None:
    times = [index / 25 for index in range(50)] + [30 + index / 25 for index in range(50)]
    video = Video(make_video(tmp_path / "gap.mkv", times=times, size=SIZE))
    assert video.duration == pytest.approx(32.0, abs=0.1)
    assert [read_number(frame.image) for frame in video.frames([1.0, 15.0, 31.0], SIZE)] == [25, 49, 75]
    assert video.notices == ()


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_gap_among_reordered_frames_adds_nothing_to_the_end(fragmented: bool, tmp_path: Path) -> None:
    """MP4 stores how long after a packet the next one is decoded, and a frame decoded before the gap may be shown after it."""
    times = [index / 25 for index in range(50)] + [7 + index / 25 for index in range(50)]
    options = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    path = make_video(tmp_path / "gap.mp4", times=times, size=SIZE, bframes=3, gop=250, container_options=options)
    assert Video(path).duration == pytest.approx(9.0, abs=0.1)


def test_sparse_pictures_are_no_jumps(tmp_path: Path) -> None:
    times = [0.0, 0.1, 7.0, 8.5, 20.0, 41.0, 41.2, 60.0]
    for suffix in (".mkv", ".mp4"):
        video = Video(make_video(tmp_path / f"slides{suffix}", times=times, size=SIZE, bframes=0))
        assert video.duration == pytest.approx(60.04, abs=0.1)
        assert [read_number(frame.image) for frame in video.frames([5.0, 19.0, 30.0, 59.0], SIZE)] == [1, 3, 4, 6]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_one_picture_in_half_an_hour(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"still{suffix}"
    make_video(path, times=[0.0, 1800.0], size=SIZE, fps=Fraction(1, 1800), bframes=0, codec_options={"x264-params": "scenecut=0"})
    video = Video(path)
    assert 1800 <= video.duration <= 3601
    assert read_number(next(video.frames([900.0], SIZE)).image) == 0
    clip = Video(video.clip(0.0, 20.0, tmp_path / "clip.mp4"))
    assert read_number(next(clip.frames([10.0], SIZE)).image) == 0


def test_a_displaced_cluster_is_put_back(tmp_path: Path) -> None:
    """Matroska: one flipped bit in the time of a cluster moves seconds of picture and sound by an hour."""
    path = make_video(tmp_path / "cluster.mkv", seconds=20, size=SIZE, gop=25, audio=tone(20.0, hertz=400))
    data = bytearray(path.read_bytes())
    places, at = [], data.find(b"\x1f\x43\xb6\x75")
    while at >= 0:
        places.append(at)
        at = data.find(b"\x1f\x43\xb6\x75", at + 4)
    assert len(places) >= 3
    stamp = data.index(b"\xe7", places[1])
    length = data[stamp + 1] & 0x7F
    value = int.from_bytes(data[stamp + 2 : stamp + 2 + length], "big") ^ 1 << (8 * length - 2)
    data[stamp + 2 : stamp + 2 + length] = value.to_bytes(length, "big")
    path.write_bytes(data)
    video = Video(path)
    assert video.duration == pytest.approx(20.0, abs=0.3)
    times = [1.0, 7.0, 9.0, 12.0, 19.0]
    numbers = [read_number(frame.image) for frame in video.frames(times, SIZE)]
    assert np.abs(np.array(numbers) - [round(25 * time) for time in times]).max() <= 3
    assert pitches(video.audio(1.0, 19.0)).count(400) >= 34


# ---- decisions -----------------------------------------------------------------------------------------------------


def decide(*streams: list[tuple[int, float, float]], discontinuous: bool = False, claimed: float | None = None) -> list[list[float]]:
    """Shifts of runs that are given as place in the file, start and end."""
    tracks: list[list[Run]] = []
    for runs in streams:
        tracks.append([])
        for number, (place, start, end) in enumerate(runs):
            begin, after = Fraction(start).limit_denominator(1000), Fraction(end).limit_denominator(1000)
            tracks[-1].append(Run(number * 100, place, begin, begin, after, after))
    decide_runs(tracks, discontinuous, None if claimed is None else Fraction(claimed))
    return [[float(run.shift) for run in track] for track in tracks]


def test_streams_are_moved_together() -> None:
    shifts = decide([(0, 0, 10), (50, 0, 10)], [(1, 0, 10.2), (52, 0.1, 10.3)])
    assert shifts == [[0, 10], [0, 10]]


@pytest.mark.parametrize("length", [0.6, 1.0, 2.0, 30.0])
@pytest.mark.parametrize("longer", [0.0, 0.02])
def test_short_parts_are_not_laid_over_each_other(length: float, longer: float) -> None:
    """Two streams; the audio of each part is read first or last, and may be a little longer."""
    video = [(10 * number, 5.0, 5.0 + length) for number in range(20)]
    audio = [(10 * number + (1 if number % 2 else -1), 5.0, 5.0 + length + longer) for number in range(20)]
    shifts = decide(video, audio, discontinuous=True)
    for runs, expected in zip(shifts, (video, audio), strict=True):
        starts = [start + shift for (_, start, _), shift in zip(expected, runs, strict=True)]
        assert starts == pytest.approx([5 + length * number for number in range(20)], abs=0.03 * 20)
    assert np.abs(np.array(shifts[0]) - shifts[1]).max() < 0.1


def test_a_thousand_parts_follow_each_other() -> None:
    runs = [(number, 100.0 * (number % 7), 100.0 * (number % 7) + 10) for number in range(1000)]
    shifts = decide(runs, discontinuous=True)[0]
    assert [run[1] + shift for run, shift in zip(runs, shifts, strict=True)] == pytest.approx([10.0 * n for n in range(1000)])


@pytest.mark.parametrize(("discontinuous", "claimed", "shift"), [(False, 1000, 0), (False, 50, -90), (False, None, 0), (True, 1000, -90)])
def test_a_leap_is_believed_where_the_format_and_the_header_bear_it_out(discontinuous: bool, claimed: float | None, shift: float) -> None:
    assert decide([(0, 0, 10), (50, 100, 110)], discontinuous=discontinuous, claimed=claimed) == [[0, shift]]


def test_a_stray_first_packet_does_not_move_the_clock() -> None:
    assert decide([(0, 86400, 86400.04), (1, 0, 10)], discontinuous=True)[0][1] == 0
