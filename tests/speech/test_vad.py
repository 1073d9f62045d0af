from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sage_cli.speech.vad import FRAME, EnergyGate, Silero, everything
from tests.models.tiny_whisper import write_silero
from tests.speech.sounds import RATE, Sound, babble, hush

# whisper.cpp's own whisper_vad_detect_speech on write_silero(seed=2) and the sound below.
WHISPER_CPP = (
    *(0.0, 0.998, 0.9, 0.991, 0.955, 0.322, 0.018, 0.671, 0.004, 0.915, 0.003, 0.682, 0.009, 0.004, 0.007, 0.782, 0.367),
    *(0.923, 0.831, 0.025, 0.004, 0.019, 0.071, 0.909, 0.058, 0.992, 0.999, 1.0, 0.996, 0.11, 0.005, 0.019),
)


def test_silero_agrees_with_whisper_cpp(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    chirps = 0.3 * np.sin(2 * np.pi * (100 + 400 * time) * time) * (time % 0.25 < 0.15)
    sound = (chirps + 0.01 * np.random.default_rng(1).standard_normal(RATE)).astype(np.float32)
    found = Silero(write_silero(tmp_path / "silero.bin", seed=2)).probabilities(sound)
    assert found == pytest.approx(np.array(WHISPER_CPP), abs=0.01)


def test_silero_holds_on_between_its_thresholds(tmp_path: Path) -> None:
    detector = Silero(write_silero(tmp_path / "silero.bin", seed=2))
    sound = babble(8) + 0.02 * np.random.default_rng(3).standard_normal(8 * RATE).astype(np.float32)
    probabilities, flags = detector.probabilities(sound), detector(sound)
    expected, speaking = [], False
    for probability in probabilities:
        speaking = probability >= (0.35 if speaking else 0.5)
        expected.append(speaking)
    assert flags.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_silero_hears_quiet_recordings_at_the_usual_level(tmp_path: Path) -> None:
    """The real network is deaf to speech far below the level that it was trained on."""
    detector = Silero(write_silero(tmp_path / "silero.bin", seed=2))
    sound = np.concatenate([babble(6), hush(6)]) + noise(12, -40)
    flags = [detector((sound * 10 ** (-dB / 20)).astype(np.float32)) for dB in (35, 45, 59)]
    assert 0 < flags[0].sum() < len(flags[0])
    assert all(np.array_equal(one, flags[0]) for one in flags)
    assert not np.array_equal(Silero(tmp_path / "silero.bin").probabilities(sound * 1e-3) >= 0.5, flags[0])
    click = (sound * 1e-3).astype(np.float32)
    click[9 * RATE] = 1.0
    before = 9 * RATE // FRAME - 1
    assert np.mean(detector(click)[:before] == flags[0][:before]) > 0.9
    assert detector(hush(0)).tolist() == []


def noise(seconds: float, level: float) -> Sound:
    return (10 ** (level / 20) * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("level", [-90, -60, -40, -20])
def test_steady_noise_is_no_speech(level: float) -> None:
    assert not EnergyGate()(noise(30, level)).any()


def test_digital_silence_is_no_speech() -> None:
    assert not EnergyGate()(hush(30)).any()
    assert EnergyGate()(hush(0)).tolist() == []


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("background", [-200, -85])
def test_speech_is_found_at_any_loudness(gain: float, background: float) -> None:
    sound = np.concatenate([hush(10), gain * babble(8), hush(12)]) + noise(30, background)
    flags = EnergyGate()(sound)
    first, last = 10 * RATE // FRAME, 18 * RATE // FRAME
    assert flags[first:last].mean() > 0.5
    assert not flags[: first - 1].any()
    assert not flags[last + 1 :].any()


def test_noise_that_stops_is_no_speech() -> None:
    """Encoders and noise gates leave digital silence between stretches of faint noise."""
    sound = np.concatenate([hush(5), noise(1, -60), babble(3) + noise(3, -60), noise(1, -60), hush(20), noise(2, -60)])
    flags = EnergyGate()(sound)
    first, last = 6 * RATE // FRAME, 9 * RATE // FRAME
    assert flags[first:last].mean() > 0.5
    assert not flags[: first - 1].any()
    assert not flags[last + 1 :].any()


def test_speech_in_loud_noise_is_let_through() -> None:
    sound = np.concatenate([hush(2), babble(20), hush(2)]) + noise(24, -30)
    assert EnergyGate()(sound)[3 * RATE // FRAME : 20 * RATE // FRAME].mean() > 0.5


def test_a_last_partial_frame_has_a_flag() -> None:
    assert len(everything(hush(1))) == len(EnergyGate()(hush(1))) == 32
