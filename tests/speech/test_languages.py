"""Languages that change. What is loud stands for English, what is faint for German: a tiny whisper cannot tell languages apart by ear."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from sage_cli.speech import SpeechOptions, Transcriber
from sage_cli.speech.languages import LanguageFinder
from sage_cli.speech.vad import FRAME
from sage_cli.speech.whisper import Samples, Whisper
from sage_cli.speech.windows import Span, Window
from tests.models.tiny_whisper import write_whisper
from tests.speech.sounds import RATE, Sound, babble, hush

ENGLISH, GERMAN = 1.0, 0.1


class ByLoudness(Whisper):
    """Knows the language by the loudest sound in most seconds; counts how often it is asked."""

    asked = 0

    def language_probabilities(self, samples: Samples) -> dict[str, float]:
        self.asked += 1
        blocks = np.abs(samples[: len(samples) // 4000 * 4000]).reshape(-1, 4000).max(axis=1)
        english = float((blocks[blocks > 0.01] > 0.05).mean()) if (blocks > 0.01).any() else 0.4
        return {"en": english, "de": 0.8 * (1 - english), "fr": 0.2 * (1 - english)}


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> ByLoudness:
    return ByLoudness(write_whisper(tmp_path_factory.mktemp("whisper") / "m.bin", multilingual=True), threads=1)


def talk(*stretches: tuple[float, float]) -> tuple[Sound, np.ndarray]:
    """Stretches of so many seconds at so much loudness, with half a second between them, and where they are."""
    sound = [part for seconds, loudness in stretches for part in (loudness * babble(seconds), hush(0.512))]
    flags = [part for seconds, _ in stretches for part in (np.ones(round(seconds * RATE) // FRAME, bool), np.zeros(16, bool))]
    return np.concatenate(sound), np.concatenate(flags)


def window(*stretches: tuple[float, float]) -> Window:
    sound, flags = talk(*stretches)
    samples = sound[: len(flags) * FRAME]
    return Window((Span(0, samples, flags[: len(samples) // FRAME]),), len(samples))


@pytest.mark.parametrize(
    ("stretches", "language", "border"),
    [
        ([(10, ENGLISH)], "en", None),
        ([(6, ENGLISH), (6, ENGLISH), (6, ENGLISH)], "en", None),
        ([(6, GERMAN), (6, GERMAN)], "de", None),
        ([(9, ENGLISH), (9, GERMAN)], "en", 9.25),
        ([(4, ENGLISH), (4, ENGLISH), (4, ENGLISH), (4, GERMAN), (4, GERMAN)], "en", 13.3),
        ([(9, ENGLISH), (6, GERMAN), (9, ENGLISH)], "en", 9.25),  # back again before the window ends
        ([(5, ENGLISH), (4, ENGLISH), (3, GERMAN), (3, GERMAN), (8, ENGLISH)], "en", 9.75),
    ],
)
def test_the_first_change_in_a_window_is_found(
    listener: ByLoudness, stretches: list[tuple[float, float]], language: str, border: float | None
) -> None:
    first, change = LanguageFinder(listener).of_window(window(*stretches), None)
    assert first == language
    assert change == (None if border is None else pytest.approx(border, abs=0.3))


def test_where_the_model_is_not_sure_the_language_holds(listener: ByLoudness) -> None:
    assert LanguageFinder(listener).of_window(window((4, 0.0), (4, 0.0)), "en") == ("en", None)


def test_a_window_ends_where_the_language_may_have_ended(listener: ByLoudness) -> None:
    """What follows is probably not French, though the model cannot tell what it is: the next window hears more of it."""
    language, border = LanguageFinder(listener).of_window(window((4, 0.0), (4, 0.0)), "fr")
    assert language == "fr"
    assert border == pytest.approx(4.25, abs=0.3)


def test_a_window_costs_few_looks(listener: ByLoudness) -> None:
    listener.asked = 0
    LanguageFinder(listener).of_window(window(*[(2.0, ENGLISH)] * 10), None)
    assert listener.asked <= 5


def test_each_stretch_is_decoded_in_its_language(tmp_path: Path, listener: ByLoudness) -> None:
    sound, _ = talk((9, ENGLISH), (9, GERMAN), (9, ENGLISH), (20, GERMAN))
    follows = Transcriber(listener.path, SpeechOptions(multilingual=True), threads=1)
    follows._languages = LanguageFinder(listener)
    segments = list(follows.stream(sound))
    runs = [(language, next(run).start) for language, run in groupby(segments, lambda segment: segment.language)]
    assert [language for language, _ in runs] == ["en", "de", "en", "de"]
    assert [start for _, start in runs] == pytest.approx([0.0, 9.5, 19.0, 28.5], abs=0.5)
    parts = [part for part in follows.parts(sound) if part.segments]
    assert list(follows.parts(sound, after=parts[1].after)) == parts[2:]


def test_by_default_one_language_holds(listener: ByLoudness) -> None:
    sound, _ = talk((9, ENGLISH), (9, GERMAN))
    assert {segment.language for segment in Transcriber(listener.path, threads=1).stream(sound, language="en")} == {"en"}
    fixed = Transcriber(listener.path, SpeechOptions(language="fr"), threads=1)
    assert not fixed.needs_language
    assert {segment.language for segment in fixed.stream(sound)} == {"fr"}
