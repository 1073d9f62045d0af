"""Windows: full of speech, cut at silence, the same wherever one begins."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.vad import FRAME, EnergyGate, everything
from sage_cli.speech.windows import Packer, Span, Window, find_speech
from tests.speech.sounds import RATE, Sound, babble, hush

LONGEST = 30 * RATE
PADDING = SpeechOptions().vad_padding


def blocks(sound: Sound, length: int = 7777) -> Iterator[Sound]:
    return (sound[at : at + length] for at in range(0, len(sound), length))


def pack(speech: Iterator[tuple[int, list[Span]]]) -> Iterator[Window]:
    packer = Packer(speech, LONGEST)
    while (window := packer.next()) is not None:
        yield window


def windows(sound: Sound, resume: int = 0, length: int = 7777) -> list[Window]:
    return list(pack(find_speech(blocks(sound, length), EnergyGate(), PADDING, resume)))


@pytest.fixture(scope="module")
def talk() -> Sound:
    """Two minutes of it: talk, pauses of all lengths, a long silence."""
    lengths = [(4, 0.2), (9, 1.5), (40, 3), (2, 10), (11, 0.7), (6, 45), (30, 2)]
    return np.concatenate([part for n, (said, pause) in enumerate(lengths) for part in (babble(said, n), hush(pause))])


def test_windows_fit_and_move_forward(talk: Sound) -> None:
    found = windows(talk)
    assert all(window.seconds <= LONGEST / RATE for window in found)
    assert all(a.resume < b.resume for a, b in pairwise(found))
    spans = [span for window in found for span in window.spans]
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_all_the_speech_is_there_and_nothing_else_much(talk: Sound) -> None:
    heard = np.zeros(len(talk), bool)
    for window in windows(talk):
        for span in window.spans:
            assert np.array_equal(span.samples, talk[span.start : span.end])
            heard[span.start : span.end] = True
    assert heard[np.abs(talk) > 0.02].all()
    assert np.count_nonzero(heard) < 110 * RATE  # of 164 s, 102 are spoken


def test_a_word_past_the_end_of_a_window_is_placed() -> None:
    """whisper.cpp may place a word later than the sound that it was given."""
    sound = Span(1600, np.zeros(1600, np.float32), np.ones(5, bool))
    start, end = Window((sound,), resume=3200).word_on_clock(0.05, 30.0)
    assert 0.1 <= start <= end


def test_cuts_lie_in_pauses(talk: Sound) -> None:
    for window in windows(talk)[:-1]:
        around = talk[max(0, window.resume - 400) : window.resume + 400]
        assert np.abs(around).max() < 0.02


def test_block_sizes_do_not_matter(talk: Sound) -> None:
    expected = [(window.resume, window.seconds) for window in windows(talk)]
    for length in (512, 16000, len(talk)):
        assert [(window.resume, window.seconds) for window in windows(talk, length=length)] == expected


def test_going_on_from_any_window_gives_the_rest(talk: Sound) -> None:
    found = windows(talk)
    assert len(found) > 3
    for done, window in enumerate(found, 1):
        rest = windows(talk, window.resume)
        assert [w.resume for w in rest] == [w.resume for w in found[done:]]
        for a, b in zip(rest, found[done:], strict=True):
            assert [(s.start, s.end) for s in a.spans] == [(s.start, s.end) for s in b.spans]
            assert not a.spans or np.array_equal(a.samples, b.samples)


def test_a_window_taken_back_in_part_is_as_one_begun_there(talk: Sound) -> None:
    for at in (2.0, 11.3, 19.99):
        packer = Packer(find_speech(blocks(talk), EnergyGate(), PADDING), LONGEST)
        first = packer.next()
        assert first is not None
        position = packer.take_back(first, at)
        rest = []
        while (window := packer.next()) is not None:
            rest.append(window)
        expected = windows(talk, position)
        assert [w.resume for w in rest] == [w.resume for w in expected]
        for a, b in zip(rest, expected, strict=True):
            assert [(s.start, s.end) for s in a.spans] == [(s.start, s.end) for s in b.spans]


def test_speech_without_a_pause_is_cut_where_it_fits() -> None:
    time = np.arange(100 * RATE) / RATE
    drone = (0.3 * np.sin(2 * np.pi * 200 * time) * (1.1 + np.sin(2 * np.pi * 3 * time))).astype(np.float32)
    found = list(pack(find_speech(blocks(drone), everything, PADDING)))
    assert sum(window.seconds for window in found) == pytest.approx(100)
    assert all(window.seconds > 19.9 for window in found[:-1])
    assert len(found) <= 5


def test_in_noise_the_cut_lies_in_the_longest_pause_not_in_the_quietest_moment() -> None:
    frames = 35 * RATE // FRAME
    sound = np.asarray(0.1 * np.random.default_rng(2).standard_normal(frames * FRAME), np.float32)
    active = np.ones(frames, bool)
    words, sentences = slice(900, 904), slice(720, 745)
    active[words] = active[sentences] = False
    sound[words.start * FRAME : words.stop * FRAME] *= 0.5
    first = next(pack(iter([(len(sound), [Span(0, sound, active)])])))
    assert sentences.start <= first.resume / FRAME <= sentences.stop


def test_silence_gives_empty_windows_that_tell_how_far_it_went() -> None:
    found = windows(hush(100))
    assert all(not window.spans for window in found)
    assert found[-1].resume == 100 * RATE


def test_memory_does_not_grow() -> None:
    """Of twenty minutes, no more than a few chunks are held at any time."""
    import tracemalloc

    def talk_for_long() -> Iterator[Sound]:
        for minute in range(20):
            yield babble(20, minute)
            yield hush(40)

    tracemalloc.start()
    for _ in pack(find_speech(talk_for_long(), EnergyGate(), PADDING)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # all of it is 77 MB


# ---- the clock -----------------------------------------------------------------------------------------------------


def test_times_go_back_to_the_original_clock() -> None:
    sound = np.concatenate([hush(10), babble(3), hush(20), babble(2), hush(1)])
    (window,) = [window for window in windows(sound) if window.spans]
    first, second = window.spans
    assert first.start / RATE == pytest.approx(9.75, abs=0.1)
    assert second.start / RATE == pytest.approx(32.75, abs=0.1)
    joint = len(first.samples) / RATE
    assert window.on_clock(0.0, 1.0) == pytest.approx((first.start / RATE, first.start / RATE + 1))
    # At the joint, a start belongs to what follows and an end to what was before.
    assert window.on_clock(0.5, joint)[1] == pytest.approx(first.end / RATE)
    assert window.on_clock(joint, joint + 1)[0] == pytest.approx(second.start / RATE)


def test_times_are_drawn_in_to_the_speech() -> None:
    sound = np.concatenate([hush(10), babble(3), hush(20), babble(2), hush(1)])
    (window,) = [window for window in windows(sound) if window.spans]
    joint = len(window.spans[0].samples) / RATE
    place = window.tighten(0.0, joint)
    assert place is not None
    start, end = window.on_clock(*place)
    assert start == pytest.approx(10.0, abs=0.15)
    assert end == pytest.approx(13.0, abs=0.35)  # the babble ends with a pause
    assert window.tighten(joint - 0.1, joint + 0.1) is None


def test_a_word_does_not_cross_a_pause_that_was_left_out() -> None:
    sound = np.concatenate([hush(10), babble(3), hush(20), babble(2), hush(1)])
    (window,) = [window for window in windows(sound) if window.spans]
    joint = len(window.spans[0].samples) / RATE
    assert window.word_on_clock(joint - 0.5, joint + 0.2)[1] == pytest.approx(window.spans[0].end / RATE)
    assert window.word_on_clock(joint - 0.2, joint + 0.5)[0] == pytest.approx(window.spans[1].start / RATE)


def test_shares_lie_in_the_speech() -> None:
    sound = np.concatenate([babble(2), hush(0.4), babble(2)])
    (window,) = windows(sound)
    edges = window.share(0.0, window.seconds, [0.0, 0.25, 0.5, 0.75, 1.0])
    assert edges == sorted(edges)
    assert edges[-1] == pytest.approx(window.seconds, abs=0.05)
    assert edges[1] == pytest.approx(1.0, abs=0.3)
    assert edges[3] == pytest.approx(3.2, abs=0.4)
