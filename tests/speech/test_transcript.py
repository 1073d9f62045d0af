"""A part of a transcript is the slice of the whole, cold or cached, and nothing is decoded twice."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from sage_cli.speech import Segment, Sound, Transcriber, Transcript, TranscriptCache
from sage_cli.speech import cache as cache_module
from sage_cli.speech import transcript as transcript_module
from sage_cli.speech.transcript import near_beginnings
from sage_cli.speech.whisper import Samples
from tests.models.tiny_whisper import write_whisper
from tests.speech.sounds import babble, hush

LENGTHS = [(20, 3), (25, 2), (9, 1), (14, 1.2), (5, 20), (26, 1), (11, 0.6), (2, 4)]


class Counted(Sound):
    """A sound in memory that counts how often it is read."""

    reads = 0

    def audio_blocks(self, start: float, end: float) -> Iterable[Samples]:
        self.reads += 1
        return super().audio_blocks(start, end)


@pytest.fixture(autouse=True)
def short_chapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two minutes have several."""
    monkeypatch.setattr(transcript_module, "CHAPTER", 40.0)


@pytest.fixture(scope="module")
def talk() -> Samples:
    return np.concatenate([part for n, (said, pause) in enumerate(LENGTHS) for part in (babble(said, n), hush(pause))])


@pytest.fixture
def sound(talk: Samples) -> Counted:
    return Counted(talk)


@pytest.fixture
def cache(tmp_path: Path) -> TranscriptCache:
    return TranscriptCache(tmp_path / "transcripts")


@pytest.fixture(scope="module")
def whole(transcriber: Transcriber, talk: Samples) -> list[Segment]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcript_module, "CHAPTER", 40.0)
        found = list(Transcript(transcriber, Sound(talk), "talk").segments())
    assert len(found) > 15
    return found


def inside(segments: list[Segment], start: float, end: float) -> list[Segment]:
    return [segment for segment in segments if segment.start < end and segment.end > start]


@pytest.mark.parametrize(("start", "end"), [(0, 10), (38, 43), (50, 51), (60, 130), (100, 1000), (77.7, 78.1)])
def test_a_part_is_the_slice_of_the_whole(
    transcriber: Transcriber, sound: Sound, whole: list[Segment], cache: TranscriptCache, start: float, end: float
) -> None:
    cold = Transcript(transcriber, sound, "talk", cache)
    assert list(cold.segments(start, end)) == inside(whole, start, end)
    assert list(cold.segments()) == whole
    assert list(cold.segments(start, end)) == inside(whole, start, end)


def test_chapters_begin_in_pauses(transcriber: Transcriber, sound: Sound, whole: list[Segment]) -> None:
    transcript = Transcript(transcriber, sound, "talk")
    for number in range(1, transcript._count):
        border = transcript._border(number)
        assert abs(border - 40 * number) <= 8
        assert not [segment for segment in whole if segment.start + 0.1 < border < segment.end - 0.1]


def test_a_part_costs_no_more_than_its_chapters(transcriber: Transcriber, sound: Counted, cache: TranscriptCache) -> None:
    list(Transcript(transcriber, sound, "talk", cache).segments(85, 90))
    kept = sorted(path.name for path in (cache._folder or Path()).iterdir())
    assert [name.rpartition("-")[2] for name in kept] == ["2.jsonl"]


def test_the_second_time_nothing_is_read(transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment]) -> None:
    list(Transcript(transcriber, sound, "talk", cache).segments())
    sound.reads = 0
    assert list(Transcript(transcriber, sound, "talk", cache).segments()) == whole
    assert list(Transcript(transcriber, sound, "talk", cache).segments(10, 70)) == inside(whole, 10, 70)
    assert sound.reads == 0


def test_what_is_cached_is_known(transcriber: Transcriber, sound: Counted, cache: TranscriptCache) -> None:
    transcript = Transcript(transcriber, sound, "talk", cache)
    assert not transcript.is_cached(0.0, 10.0)
    list(transcript.segments(45.0, 100.0))
    reads = sound.reads
    assert transcript.is_cached(50.0, 100.0)
    assert not transcript.is_cached(0.0, 100.0)
    assert not transcript.is_cached(50.0, sound.duration)
    assert sound.reads == reads
    next(transcript.segments(0.0, 20.0))  # interrupted
    assert not transcript.is_cached(0.0, 100.0)
    list(transcript.segments())
    assert transcript.is_cached(0.0, sound.duration)


def test_media_and_models_are_kept_apart(transcriber: Transcriber, sound: Counted, cache: TranscriptCache, tmp_path: Path) -> None:
    list(Transcript(transcriber, sound, "talk", cache).segments(0, 5))
    other = Transcriber(write_whisper(tmp_path / "other.bin", seed=1), threads=1)
    for transcript in (Transcript(transcriber, sound, "other", cache), Transcript(other, sound, "talk", cache)):
        sound.reads = 0
        list(transcript.segments(0, 5))
        assert sound.reads


def test_a_silence_passes_window_by_window(tmp_path: Path) -> None:
    """Also while only the language is to be found: someone has a time limit to check, and progress to show."""
    sound = Counted(hush(100))
    transcript = Transcript(Transcriber(write_whisper(tmp_path / "many.bin", multilingual=True), threads=1), sound, "hush")
    parts = list(transcript.parts(10.0))
    assert not any(part.segments for part in parts)
    seconds = [part.seconds for part in parts]
    assert seconds == sorted(seconds)
    assert seconds.count(10.0) > 1
    assert seconds[-1] == 100.0
    reads = sound.reads
    assert len(list(transcript.parts(10.0))) < len(parts)  # the language is not looked for again
    assert sound.reads - reads < reads


def files(cache: TranscriptCache) -> list[Path]:
    return sorted((cache._folder or Path()).glob("*.jsonl"))


@pytest.mark.parametrize("cut", [0, 7, -1, -400])
def test_goes_on_wherever_a_file_was_cut(
    transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment], cut: int
) -> None:
    """A kill leaves whole lines and at most a piece of one."""
    transcript = Transcript(transcriber, sound, "talk", cache)
    list(transcript.segments())
    for path in files(cache):
        path.write_bytes(path.read_bytes()[:cut])
    assert list(transcript.segments()) == whole
    sound.reads = 0
    assert list(transcript.segments()) == whole
    assert sound.reads == 0


def test_a_damaged_byte_anywhere_is_never_believed(
    transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment]
) -> None:
    transcript = Transcript(transcriber, sound, "talk", cache)
    list(transcript.segments(0, 30))
    path = files(cache)[0]
    good = path.read_bytes()
    expected = inside(whole, 0, 30)
    random = np.random.default_rng(0)
    for _ in range(12):
        bad = bytearray(good)
        bad[int(random.integers(len(bad)))] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(bad))
        assert list(transcript.segments(0, 30)) == expected


def test_lost_windows_are_told(transcriber: Transcriber, sound: Counted, cache: TranscriptCache, caplog: pytest.LogCaptureFixture) -> None:
    """What a kill left is no damage."""
    transcript = Transcript(transcriber, sound, "talk", cache)
    list(transcript.segments(0, 30))
    path = files(cache)[0]
    head, first, second = filter(None, path.read_bytes().split(b"\n"))
    for lines, told in (
        ([head, first, second[:-9]], 0),
        ([head, first, second[:-9], second, b""], 0),
        ([head, second, b""], 1),
        ([head, first[:-9], second, b""], 1),
        ([head, first[:-9], b""], 1),
        ([first, second, b""], 0),
        ([head[:-9], first, second, b""], 1),
    ):
        path.write_bytes(b"\n".join(lines))
        caplog.clear()
        for _ in range(2):
            list(transcript.segments(0, 30))
        assert caplog.text.count("has damaged entries") == told


def test_the_lines_of_another_recording_are_never_believed(tmp_path: Path, cache: TranscriptCache, sound: Counted) -> None:
    transcriber = Transcriber(write_whisper(tmp_path / "m.bin", multilingual=True), threads=1)
    quiet = Sound(hush(3))
    said = list(Transcript(transcriber, sound, "talk", cache).segments())
    other = list(Transcript(transcriber, quiet, "hush", cache).segments())
    assert said != other
    for path in files(cache):
        if path.name.startswith("talk-"):
            path.replace(path.with_name(path.name.replace("talk", "hush")))
    assert list(Transcript(transcriber, quiet, "hush", cache).segments()) == other


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment], caplog: pytest.LogCaptureFixture
) -> None:
    transcript = Transcript(transcriber, sound, "talk", cache)
    list(transcript.segments(0, 5))
    (path,) = files(cache)
    path.unlink()
    os.mkfifo(path)
    assert list(transcript.segments(0, 5)) == inside(whole, 0, 5)
    assert "in the place of a transcript" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        b'{"at": 0, "segments": [{"start": NaN}], "after": {}}',
        b'{"start": "a", "end": []}',
        b"[" * 100_000,
        b"null",
        b'{"at": 0, "segments": 3, "after": {"position": "x", "language": null, "context": 5, "clock": 0}}',
    ],
)
def test_another_program_s_lines_are_left_out(
    transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment], text: bytes
) -> None:
    """Even with a true checksum."""
    transcript = Transcript(transcriber, sound, "talk", cache)
    list(transcript.segments(0, 5))
    (path,) = files(cache)
    path.write_bytes(cache_module._checksum(path.stem, text) + b" " + text + b"\n")
    assert list(transcript.segments(0, 5)) == inside(whole, 0, 5)


def test_two_at_once_do_no_harm(transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment]) -> None:
    one, two = (Transcript(transcriber, sound, "talk", cache).segments() for _ in range(2))
    assert next(one) == next(two) == whole[0]
    assert list(one) == whole[1:]
    assert list(two) == whole[1:]
    assert list(Transcript(transcriber, sound, "talk", cache).segments()) == whole


def test_a_folder_that_cannot_be_written_to_is_read(
    transcriber: Transcriber, sound: Counted, cache: TranscriptCache, whole: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(Transcript(transcriber, sound, "talk", cache).segments())
    sound.reads = 0
    monkeypatch.setattr("sage_cli.speech.cache.os.utime", read_only)
    assert list(Transcript(transcriber, sound, "talk", cache).segments()) == whole
    assert sound.reads == 0


def read_only(path: Path) -> None:
    raise OSError(errno.EROFS, "Read-only file system", str(path))


def test_a_folder_that_cannot_be_written_to_keeps_nothing(
    tmp_path: Path, transcriber: Transcriber, sound: Counted, whole: list[Segment]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert list(Transcript(transcriber, sound, "talk", TranscriptCache(tmp_path / "file")).segments(0, 5)) == inside(whole, 0, 5)


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "transcripts"
    short = Sound(babble(3))
    for age, name in enumerate("abc"):
        list(Transcript(transcriber, short, name * 24, TranscriptCache(folder)).segments())
        (path,) = folder.glob(f"{name * 24}-*")
        os.utime(path, (1e9 - age, 1e9 - age))
        size = path.stat().st_size
    monkeypatch.setattr("sage_cli.speech.cache.LIMIT", 2 * size + 10)
    list(Transcript(transcriber, short, "d" * 24, TranscriptCache(folder)).segments())
    assert sorted(path.name[0] for path in folder.iterdir()) == ["a", "b", "d"]


def test_one_language_for_the_whole_recording(tmp_path: Path, cache: TranscriptCache, sound: Counted) -> None:
    """A part is decoded in the language of the recording, which is found at its beginning."""
    transcriber = Transcriber(write_whisper(tmp_path / "m.bin", multilingual=True), threads=1)
    (first, *_) = Transcript(transcriber, sound, "talk", cache).segments(105, 110)
    assert first.language == "de"
    assert [path.name.rpartition("-")[2] for path in files(cache)] == ["2.jsonl", "language.jsonl"]


@pytest.mark.parametrize(
    ("start", "end", "count", "times"),
    [
        (0.0, 145.0, 9, [8.0, 48.0, 88.0]),
        (0.0, 145.0, 2, [8.0, 88.0]),
        (0.0, 145.0, 1, [48.0]),
        (41.0, 130.0, 4, [88.0]),
        (50.0, 75.0, 4, []),
    ],
)
def test_some_times_cost_a_window_each(
    transcriber: Transcriber, sound: Counted, cache: TranscriptCache, start: float, end: float, count: int, times: list[float]
) -> None:
    assert near_beginnings(start, end, count) == times
    windows = sum(len(list(Transcript(transcriber, sound, "talk", cache).parts(time, time + 4))) for time in times)
    assert windows == len(times)
