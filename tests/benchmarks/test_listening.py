"""How ``benchmarks.listening`` counts."""

from __future__ import annotations

import pytest

from benchmarks.listening import Cue, Score, aligned, judge, words_of
from benchmarks.transcribe import Run


@pytest.mark.parametrize(
    ("said", "written", "errors"),
    [
        ("Press 1, please.", "press one please", 0),
        ("extension 1234", "extension one two three four", 0),
        ("That's not it", "that is not it", 0),
        ("I can't and won't", "I cannot and will not", 0),
        ("the blacklist", "the black list", 0),
        ("a pre-pended touch tone", "a prepended touchtone", 0),
        ("one two three", "one three", 1),
        ("one two three", "one two two three", 1),
        ("one two three", "one [Music] two (applause) tree", 1),
        ("", "two words", 2),
    ],
)
def test_word_errors(said: str, written: str, errors: int) -> None:
    assert aligned(words_of(said), words_of(written))[0] == errors
    assert aligned(words_of(written), words_of(said))[0] == errors


def test_pairs_are_words_that_agree() -> None:
    said, written = words_of("the blacklist of my touch tone phone"), words_of("a black list my touchtone phone")
    errors, pairs = aligned(said, written)
    assert errors == 2
    assert [(said[mine], written[theirs]) for mine, theirs in pairs] == [
        ("blacklist", "black"),
        ("my", "my"),
        ("touch", "touchtone"),
        ("tone", "touchtone"),
        ("phone", "phone"),
    ]


def test_a_recording_is_judged_by_words_and_times() -> None:
    speech = [
        {"start": 2.0, "end": 4.0, "text": "one two three four"},
        {"start": 10.0, "end": 12.0, "text": "five six seven eight"},
        {"start": 20.0, "end": 22.0, "text": "nobody hears this sentence"},
    ]
    cues = [Cue(2.1, 4.0, "One two, three. Four five"), Cue(12.5, 14.0, "six seven eight")]
    score = Score()
    judge(score, {"speech": speech, "silence": [{"start": 13.0, "end": 19.0}]}, cues, Run(1.0, 2.0, 0.5, 3.0, 2))
    assert (score.errors, score.words, score.lost) == (4, 12, 1)
    assert (score.onsets, score.late) == (3, 2)
    assert (score.matched, score.beside) == (8, 4)  # "five" too early, the rest of its sentence too late
    assert score.silence == pytest.approx(1.0)
