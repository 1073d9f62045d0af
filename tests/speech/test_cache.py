"""What was decoded is not decoded again: not after a kill, not for a part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sage_cli.speech import Part, Remembering, Transcriber, TranscriptCache
from sage_cli.speech import cache as cache_module
from tests.speech.sounds import RATE, Sound, babble, hush

SOUND = np.concatenate([babble(20, 1), hush(3), babble(25, 2), hush(70), babble(5, 3)])
END = len(SOUND) / RATE


@pytest.fixture
def cache(tmp_path: Path) -> TranscriptCache:
    return TranscriptCache(tmp_path / "transcripts")


class Audio:
    """The sound, and how often it was asked for."""

    def __init__(self, sound: Sound = SOUND) -> None:
        self.sound, self.asked = sound, 0

    def __call__(self) -> Iterator[Sound]:
        self.asked += 1
        yield self.sound


def run(
    cache: TranscriptCache, transcriber: Transcriber, audio: Callable[[], Iterator[Sound]], start: float = 0.0, end: float = END
) -> list[Part]:
    return list(cache.parts(transcriber, "talk", audio, start, end))


def files(cache: TranscriptCache) -> list[Path]:
    return sorted(cache._folder.glob("*"))


@pytest.fixture(scope="module")
def expected(transcriber: Transcriber) -> list[Part]:
    parts = list(transcriber.parts(SOUND))
    assert len(parts) >= 3
    return parts


def test_the_second_time_is_recalled(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part]) -> None:
    audio = Audio()
    assert run(cache, transcriber, audio) == expected
    assert run(cache, transcriber, audio) == expected
    assert audio.asked == 1


def test_words_and_turns_come_back_too(cache: TranscriptCache, model: Path) -> None:
    transcriber = Transcriber(model, threads=1, words=True)
    first = run(cache, transcriber, Audio())
    assert first[0].segments[0].words
    assert run(cache, transcriber, Audio()) == first


@pytest.mark.parametrize("cut", [0, 7, -1, -400])
def test_goes_on_wherever_the_file_was_cut(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part], cut: int) -> None:
    """A kill leaves whole lines and at most a piece of one."""
    run(cache, transcriber, Audio())
    (path,) = files(cache)
    path.write_bytes(path.read_bytes()[:cut])
    assert run(cache, transcriber, Audio()) == expected
    audio = Audio()
    assert run(cache, transcriber, audio) == expected
    assert audio.asked == 0


def test_only_what_is_missing_is_decoded(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part]) -> None:
    running = cache.parts(transcriber, "talk", Audio(), 0.0, END)
    done = [next(running), next(running)]
    running.close()  # type: ignore[attr-defined]
    lines = files(cache)[0].read_bytes().count(b'"segments"')
    assert lines == 2
    assert [*done, *run(cache, transcriber, Audio())[2:]] == expected
    assert files(cache)[0].read_bytes().count(b'"segments"') == len(expected)


def test_two_at_once_do_no_harm(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part]) -> None:
    one, two = (cache.parts(transcriber, "talk", Audio(), 0.0, END) for _ in range(2))
    assert [next(one), next(two)] == [expected[0]] * 2
    assert list(one) == expected[1:]
    assert list(two) == expected[1:]
    audio = Audio()
    assert run(cache, transcriber, audio) == expected
    assert audio.asked == 0


def test_nonsense_in_the_file_is_passed_over(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part]) -> None:
    run(cache, transcriber, Audio())
    (path,) = files(cache)
    first, _, rest = path.read_bytes().strip().partition(b"\n")
    path.write_bytes(first + b'\n\xff\xfe\n[]\n{"at": 0}\nnull\n{"at": %d, "segments": 3}\n' % expected[0].after.position + rest)
    audio = Audio()
    assert run(cache, transcriber, audio) == expected


def test_a_finished_transcript_serves_its_parts(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part]) -> None:
    run(cache, transcriber, Audio())
    audio = Audio()
    (part,) = run(cache, transcriber, audio, 10.0, 30.0)
    assert audio.asked == 0
    segments = [segment for part in expected for segment in part.segments]
    assert list(part.segments) == [segment for segment in segments if segment.start < 30 and segment.end > 10]
    assert run(cache, transcriber, audio, 10.0, END + 5)  # reaches beyond: decoded
    assert audio.asked == 1


def test_models_and_media_are_kept_apart(cache: TranscriptCache, transcriber: Transcriber, model: Path) -> None:
    run(cache, transcriber, Audio())
    audio = Audio()
    run(cache, Transcriber(model, threads=1, prompt="other"), audio)
    list(cache.parts(transcriber, "another", audio, 0.0, END))
    assert audio.asked == 2


def test_a_tool_s_transcriber_remembers(cache: TranscriptCache, transcriber: Transcriber, expected: list[Part]) -> None:
    remembering = Remembering(transcriber, "talk", cache)
    whole = [segment for part in expected for segment in part.segments]
    assert list(remembering.stream(SOUND)) == whole
    assert list(remembering.stream(hush(10), start=20.0)) == [s for s in whole if s.start < 30 and s.end > 20]


def test_a_folder_that_cannot_be_written_to_is_done_without(tmp_path: Path, transcriber: Transcriber, expected: list[Part]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(TranscriptCache(tmp_path / "file"), transcriber, Audio()) == expected


def test_the_oldest_go_when_there_are_too_many(cache: TranscriptCache, transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Audio(babble(3))
    for name in ("a", "b", "c"):
        list(cache.parts(transcriber, name, short, 0.0, 3.0))
    a, b, c = files(cache)
    for age, path in enumerate((b, c, a)):
        os.utime(path, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(cache_module, "LIMIT", a.stat().st_size * 2 + 10)
    list(cache.parts(transcriber, "d", short, 0.0, 3.0))
    assert a not in files(cache)
    assert {b, c} < set(files(cache))
