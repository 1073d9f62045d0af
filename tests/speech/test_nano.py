"""The nano whisper on a bundled clip, whose words and times are known because they were synthesised."""

from __future__ import annotations

import numpy as np
import pytest

from sage_cli.assets import CLIPS, NANO
from sage_cli.speech import Transcriber
from sage_cli.video import SAMPLE_RATE, Video
from training.clips import demo_worlds

TOLERANCE = 0.3  # seconds


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return Video(CLIPS / "speech.mp4").audio()


def loud_until(sound: np.ndarray, start: float) -> float:
    """When the sentence that starts at a time is over: half a second of silence follows."""
    loud = np.flatnonzero(np.abs(sound[round(start * SAMPLE_RATE) :]) > 0.02)
    gaps = np.flatnonzero(np.diff(loud) > SAMPLE_RATE // 2)
    return start + float(loud[gaps[0] if len(gaps) else -1]) / SAMPLE_RATE


def test_every_word_is_heard_at_its_time(sound: np.ndarray) -> None:
    truth = demo_worlds()["speech"].lines
    segments = list(Transcriber(NANO.speech, threads=1).stream(sound))
    assert [segment.text.strip() for segment in segments] == [line.text for line in truth]
    for segment, line in zip(segments, truth, strict=True):
        assert segment.start == pytest.approx(line.start, abs=TOLERANCE)
        assert segment.end == pytest.approx(loud_until(sound, line.start), abs=TOLERANCE)


def test_silence_between_and_around_is_no_speech(sound: np.ndarray) -> None:
    first = demo_worlds()["speech"].lines[0]
    assert list(Transcriber(NANO.speech, threads=1).stream(sound[: round((first.start - 0.5) * SAMPLE_RATE)])) == []


def test_a_sentence_keeps_together_between_noise_and_digital_silence(sound: np.ndarray) -> None:
    """Each sentence in a second of faint noise on both sides, and nothing at all between them, as encoders write it."""
    lines = demo_worlds()["speech"].lines
    noise = np.random.default_rng(0).normal(0, 0.001, len(sound)).astype(np.float32)
    pieces, starts = [], []
    for line in lines:
        first, last = (round(time * SAMPLE_RATE) for time in (line.start - 1, loud_until(sound, line.start) + 1))
        pieces += [np.zeros(17 * SAMPLE_RATE, np.float32), sound[first:last] + noise[first:last]]
        starts.append((sum(map(len, pieces)) - (last - first)) / SAMPLE_RATE + 1)
    segments = list(Transcriber(NANO.speech, threads=1).stream(np.concatenate(pieces)))
    assert [segment.text for segment in segments] == [line.text for line in lines]
    assert [segment.start for segment in segments] == pytest.approx(starts, abs=TOLERANCE)
