"""Words become segments, those that attention put on the wrong side of a long silence too."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from sage_cli.speech.phrases import Placed, segments, together
from sage_cli.speech.segment import Word


def placed(*words: tuple[str, float, float], stamped: tuple[int, ...] = (0,)) -> list[Placed]:
    return [Placed(Word(start, end, text, 0.9), f" {text}", n in stamped, turn=False) for n, (text, start, end) in enumerate(words)]


def places(words: list[Placed]) -> list[tuple[str, float, float]]:
    return [(p.word.text, round(p.word.start, 1), round(p.word.end, 1)) for p in words]


REST = [("one", 173.1, 174.1), ("to", 174.1, 174.4), ("record.", 174.4, 175.0)]


def test_a_first_word_on_a_sound_long_before_comes_back() -> None:
    found = together(placed(("Press", 145.3, 145.6), *REST))
    assert places(found) == [("Press", 173.1, 173.7), ("one", 173.7, 174.1), *REST[1:]]


def test_a_last_word_on_a_sound_long_after_comes_back() -> None:
    found = together(placed(("Press", 1.0, 1.5), ("the", 1.5, 1.7), ("key", 1.7, 2.3), ("now.", 20.0, 20.2)))
    assert places(found)[2:] == [("key", 1.7, 2.0), ("now.", 2.0, 2.3)]
    assert all(a.word.end <= b.word.start for a, b in pairwise(found))


def test_only_the_words_of_the_sentence_move() -> None:
    before, first = ("Hello.", 140.0, 140.5), [("Press", 145.3, 145.6), ("the", 145.6, 145.8)]
    last, after = [("right", 190.0, 190.2), ("now.", 190.2, 190.4)], ("Goodbye.", 200.0, 200.5)
    found = places(together(placed(before, *first, *REST, after)))
    assert (found[0], found[-1]) == (before, after)
    assert (found[1][1], found[3]) == (173.1, ("one", 173.8, 174.1))
    assert found[4:6] == REST[1:]
    found = places(together(placed(before, ("Press", 173.1, 174.1), ("it", 174.1, 174.4), ("here", 174.4, 175.0), *last, after)))
    assert (found[:3], found[-1]) == ([before, ("Press", 173.1, 174.1), ("it", 174.1, 174.4)], after)
    assert (found[3][1], found[5][2]) == (174.4, 175.0)


def test_a_timestamp_inside_a_sentence_does_not_end_it() -> None:
    words = placed(
        *(("leaves", 8.0, 8.3), ("at", 8.3, 8.5), ("eight,", 8.5, 9.5)),
        *(("strong", 27.2, 27.5), ("wind", 27.5, 27.8), ("from", 27.8, 28.0), ("the", 28.0, 28.2), ("north", 28.2, 28.6)),
        stamped=(0, 5),
    )
    assert together(words) == words


def test_sentences_and_phrases_of_their_own_stay() -> None:
    for words in (
        placed(("Goodbye.", 46.3, 47.1), ("Thank", 56.0, 56.3), ("you", 56.3, 56.5), ("all.", 56.5, 57.0)),
        placed(("Well", 1.0, 1.4), *REST, stamped=(0, 1)),
        placed(("Press", 171.0, 171.3), *REST),
        # Neither side has strayed: they are as long as each other, or longer than words that stray.
        *(
            placed(*((f"{n}", n + (9.0 if n >= at else 0.0), n + 9.5 if n >= at else n + 0.5) for n in range(count)))
            for at, count in ((2, 4), (3, 6), (3, 7), (4, 7))
        ),
        [],
    ):
        assert together(words) == words


def test_a_segment_ends_where_another_speaker_begins() -> None:
    words = placed(("So", 0.0, 0.3), ("it", 0.3, 0.5), ("is.", 0.5, 0.8), ("Yes.", 0.8, 1.0))
    words[1] = replace(words[1], turn=True)
    assert [(segment.text, segment.speaker_turn) for segment in segments(words, "en")] == [("So it", True), ("is. Yes.", False)]


def test_a_timestamp_inside_a_sentence_ends_a_long_segment_alone() -> None:
    words = placed(*((f"{n}", n * 1.0, n + 1.0) for n in range(10)), stamped=(0, 2, 6))
    assert [segment.text for segment in segments(words, "en")] == ["0 1 2 3 4 5", "6 7 8 9"]


def test_the_confidence_of_a_segment_is_that_of_its_letters() -> None:
    words = placed(("a", 0.0, 0.5), ("bcd", 0.5, 1.0))
    words[1] = replace(words[1], word=replace(words[1].word, confidence=0.1))
    (segment,) = segments(words, "en")
    assert segment.confidence == pytest.approx((0.9 * 0.1**3) ** (1 / 4))
