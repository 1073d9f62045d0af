"""Words at their places: attention within timestamps, drawn in to the speech."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sage_cli.speech.alignment import align, restamped, split_words, spoken, text_of, unwritten, without_annotations
from sage_cli.speech.vad import FRAME
from sage_cli.speech.whisper import RATE, Token
from sage_cli.speech.windows import Span, Window


def text(written: str, until: float | None = None) -> Token:
    return Token(1, written.encode(), -0.1, spoken_until=until)


def stamp(seconds: float) -> Token:
    return Token(2, b"", -0.1, time=seconds)


def window(*stretches: tuple[float, float], seconds: float = 12.0) -> Window:
    """A window with speech at these places."""
    active = np.zeros(round(seconds * RATE) // FRAME, bool)
    for start, end in stretches:
        active[round(start * RATE) // FRAME : round(end * RATE) // FRAME] = True
    return Window((Span(0, np.zeros(len(active) * FRAME, np.float32), active),), len(active) * FRAME)


def places(tokens: list[Token], where: Window) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start, 1), round(word.end, 1)) for word in align(tokens, where, "en")]


def test_a_word_lasts_from_the_token_before_to_its_own_last_one() -> None:
    tokens = [stamp(0.0), text(" one", 1.0), text(" tw", 1.5), text("o", 2.0), text(".", 2.9), stamp(3.0)]
    assert places(tokens, window((0.0, 2.0))) == [("one", 0.0, 1.0), ("two.", 1.0, 2.0)]


def test_the_first_word_after_a_pause_begins_with_the_sound() -> None:
    """Attention comes early, or late; the full stop before takes the pause."""
    for early in 4.0, 5.4:
        tokens = [stamp(0.0), text(" one", 1.0), text(".", early), stamp(5.0), stamp(5.0), text(" two", 6.0), text(".", 6.5), stamp(6.5)]
        assert places(tokens, window((0.0, 1.2), (5.2, 6.1))) == [("one.", 0.0, 1.2), ("two.", 5.2, 6.1)]


def test_attention_that_slips_over_a_pause_is_held_back_by_the_timestamps() -> None:
    tokens = [stamp(0.0), text(" press", 0.5), text(" the", 8.2), text(" key", 8.4), stamp(2.0), stamp(8.0), text(" Next", 8.8), stamp(9.0)]
    found = places(tokens, window((0.0, 2.0), (8.0, 9.0)))
    assert [word for word, _, end in found if end <= 2.1] == ["press", "the", "key"]
    assert found[-1] == ("Next", 8.0, 9.0)


def test_the_last_word_before_a_pause_stays_there() -> None:
    """Attention took it for the next sentence, and left it no speech of its own."""
    tokens = [stamp(0.0), text(" in", 1.0), text(" the", 2.05), text(" conference", 3.4), text(".", 3.5), stamp(2.5)]
    tokens += [stamp(3.0), text(" The", 3.9), text(" end", 4.4), stamp(4.5)]
    found = places(tokens, window((0.0, 2.0), (3.0, 4.5)))
    assert found[2][0] == "conference."
    assert found[2][2] <= 2.1
    assert found[3] == ("The", 3.0, 3.9)


def test_timestamps_in_whole_seconds_are_put_where_attention_is() -> None:
    """The model rounded them: the word after a pause would begin before it."""
    tokens = [stamp(0.0), text(" one", 3.4), text(".", 5.9), stamp(3.0), stamp(5.0), text(" Two", 6.6), text(".", 6.9), stamp(6.0)]
    moved = restamped(tokens)
    assert [token.time for token in moved if token.time is not None] == pytest.approx([0.0, 3.4, 5.9, 6.6])
    assert [token.id for token in moved if token.time is not None] == [2, 2 + 20, 2 + 45, 2 + 30]
    where = window((0.0, 3.4), (5.9, 6.6))
    assert places(moved, where)[1] == ("Two.", 5.9, 6.6)
    assert places(tokens, where)[1] != ("Two.", 5.9, 6.6)


@pytest.mark.parametrize(
    "tokens",
    [
        [stamp(0.0), text(" one", 3.4), stamp(3.0), stamp(3.0), text(" two", 6.6), stamp(6.02)],  # not all are whole
        [stamp(0.0), text(" one", 3.4), stamp(3.0)],  # one may be by chance
        [stamp(0.0), text(" one"), stamp(3.0), stamp(3.0), text(" two"), stamp(6.0)],  # no attention
        [stamp(0.0), text(" one", 9.4), stamp(3.0), stamp(8.0), text(" two", 9.6), stamp(11.0)],  # further than rounding goes
        [stamp(0.0), stamp(2.0)],
        [],
    ],
)
def test_other_timestamps_stay(tokens: list[Token]) -> None:
    assert [token.time for token in restamped(tokens)] == [token.time for token in tokens]


def test_speech_without_a_word_is_found() -> None:
    where = window((0.0, 2.0), (3.0, 6.0), (7.0, 9.0))
    tokens = [stamp(0.0), text(" one", 1.9), stamp(2.0), stamp(7.0), text(" two", 8.0), stamp(9.0)]
    assert unwritten(tokens, where) == pytest.approx(3.0, abs=0.05)
    assert unwritten([*tokens[:2], text(" more", 5.0), *tokens[2:]], where) is None
    assert unwritten([stamp(0.0), text(" one"), stamp(9.0)], where) is None  # no attention, no telling


def test_without_attention_words_share_the_speech() -> None:
    tokens = [stamp(0.0), text(" four"), text(" four"), stamp(4.0)]
    assert places(tokens, window((0.0, 4.0))) == [("four", 0.0, 2.0), ("four", 2.0, 4.0)]


def islands(*lengths: float) -> Window:
    """A window of so many seconds of speech each, with a minute left out between them."""
    spans, start = [], 0
    for length in lengths:
        frames = round(length * RATE) // FRAME
        spans.append(Span(start, np.zeros(frames * FRAME, np.float32), np.ones(frames, bool)))
        start = spans[-1].end + 60 * RATE
    return Window(tuple(spans), start)


def test_without_attention_a_sentence_stays_on_one_side_of_a_pause() -> None:
    tokens = [stamp(0.0), *(text(f" {word}") for word in ("The", "secret", "number", "is", "eight.")), stamp(4.4)]
    assert [word.start >= 1.4 for word in align(tokens, islands(1.5, 3.0), "en")] == [True] * 5
    assert [word.end <= 3.1 for word in align(tokens, islands(3.0, 1.5), "en")] == [True] * 5
    long = [stamp(0.0), *(text(" incomprehensibilities") for _ in range(6)), stamp(7.8)]
    assert [word.start >= 3.9 for word in align(long, islands(4.0, 4.0), "en")] == [False] * 3 + [True] * 3


def test_words_are_in_order_whatever_attention_says() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        tokens = [stamp(0.0), *(text(f" w{n}", float(t)) for n, t in enumerate(random.uniform(0, 12, 12))), stamp(11.0)]
        words = align(tokens, window((1.0, 3.0), (5.0, 9.0)), "en")
        assert len(words) == 12
        assert all(word.start < word.end for word in words)
        assert all(a.end <= b.start + 1e-9 for a, b in pairwise(words))


def test_the_place_of_words_over_silence_is_marked() -> None:
    words = align([stamp(5.0), text(" ghost", 6.0), stamp(7.0)], window((0.0, 2.0)), "en")
    assert [word.heard for word in words] == [False]


@pytest.mark.parametrize(
    ("pieces", "kept"),
    [
        ([" [", "Music", "]", " hello"], ["hello"]),
        ([" (", "speaking", " Spanish", ")"], []),
        ([" ♪", " la", " la", " ♪", " hello"], ["hello"]),
        ([" ♪", " la", " la"], []),
        ([" *", "laughs", "*", " yes"], ["yes"]),
        ([" said", " (", "he"], ["said", "(he"]),
        ([" 3", " <", " 4"], ["3", "<", "4"]),
    ],
)
def test_annotations_are_no_speech(pieces: list[str], kept: list[str]) -> None:
    tokens = [stamp(0.0), *(text(piece, 0.5 + n) for n, piece in enumerate(pieces)), stamp(8.0)]
    assert [word.text for word in spoken(align(tokens, window((0.0, 9.0)), "en"))] == kept


def test_no_annotation_gets_into_the_context() -> None:
    tokens = [
        stamp(0.0),
        text(" Hi"),
        stamp(1.0),
        stamp(1.0),
        text(" ["),
        text("Music"),
        text("]"),
        stamp(9.0),
        stamp(9.0),
        text(" Bye"),
        stamp(9.5),
    ]
    kept = without_annotations(tokens)
    assert text_of(kept) == "Hi Bye"
    assert [token.time for token in kept if token.time is not None] == [0.0, 1.0, 9.0, 9.5]
    assert without_annotations([stamp(0.0), text(" [Music]"), stamp(9.0)]) == []
    assert text_of(without_annotations([text(" *"), text(" laughs"), text(" *."), text(" Hi")])) == "Hi"
    unclosed = [stamp(0.0), text(" ["), text("Music"), stamp(1.0), text(" Hi"), stamp(2.0)]
    assert [token.time or text_of([token]) for token in without_annotations(unclosed)[1:]] == [1.0, "Hi", 2.0]


def test_words_of_scripts_without_spaces() -> None:
    assert [text_of(group) for group in split_words([text("水"), text("曜"), text("日"), text("。")], "ja")] == ["水", "曜", "日。"]
    halves = "曜".encode()
    tokens = [Token(1, halves[:2], 0.0), Token(1, halves[2:], 0.0), text("日")]
    assert [text_of(group) for group in split_words(tokens, "ja")] == ["曜", "日"]


def test_words_know_the_timestamps_and_the_turns_around_them() -> None:
    said = [stamp(0.0), text(" one", 1.0), text(" two", 2.0), Token(3, b"", -0.1, turn=True), stamp(2.0)]
    words = align([*said, stamp(2.0), text(" three", 3.0), text(" four", 4.0), stamp(4.0)], window((0.0, 4.0)), "en")
    assert [(word.text, word.stamped, word.turn) for word in words] == [
        ("one", True, False),
        ("two", False, True),
        ("three", True, False),
        ("four", False, False),
    ]
