"""Steady noise is lowered; sound without noise is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from sage_cli.speech.noise import without_noise
from tests.speech.sounds import RATE, Sound, babble, hush


def power(sound: Sound) -> float:
    return float(np.mean(np.square(sound, dtype=np.float64)))


def hiss(seconds: float, level: float = 0.02) -> Sound:
    return np.asarray(level * np.random.default_rng(5).standard_normal(round(seconds * RATE)), np.float32)


def test_noise_is_lowered_a_little() -> None:
    assert 5 < 10 * np.log10(power(hiss(10)) / power(without_noise(hiss(10)))) < 12


def test_speech_comes_closer_to_what_it_was_before_the_noise() -> None:
    talk = babble(10)
    noisy = talk + hiss(10)
    assert power(without_noise(noisy) - talk) < 0.35 * power(noisy - talk)


def test_sound_without_noise_stays_as_it_is() -> None:
    talk = np.concatenate([hush(1), babble(10), hush(1)])
    assert power(without_noise(talk) - talk) < 1e-4 * power(talk)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 511, 512, 16000, 30 * RATE])
def test_the_length_stays_and_equal_sounds_give_equal_ones(length: int) -> None:
    sound = hiss(length / RATE)
    assert without_noise(sound).shape == sound.shape == (length,)
    assert np.array_equal(without_noise(sound), without_noise(sound.copy()))


def test_silence_stays_silent() -> None:
    assert not without_noise(hush(2)).any()
