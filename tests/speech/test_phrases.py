"""Words that attention put on the wrong side of a long silence."""

from __future__ import annotations

from itertools import pairwise

from sage_cli.speech.phrases import Placed, together
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
        placed(("one", 1.0, 1.2), ("two", 1.2, 1.4), ("three", 1.4, 1.6), ("four", 9.0, 9.2), ("five", 9.2, 9.4), ("six", 9.4, 9.6)),
        [],
    ):
        assert together(words) == words
