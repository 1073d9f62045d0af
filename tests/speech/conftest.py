"""What the speech tests share: a tiny whisper and sounds that swing as speech does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sage_cli.speech import Transcriber
from tests.models.tiny_whisper import write_whisper

Sound = NDArray[np.float32]
RATE = 16000


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "ggml-tiny.bin")


@pytest.fixture(scope="session")
def transcriber(model: Path) -> Transcriber:
    return Transcriber(model, threads=1)


def babble(seconds: float, seed: int = 0) -> Sound:
    """Syllables of changing pitch, four a second, with a short pause after every sixth: to an ear for loudness, speech."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    syllable = (time * 4).astype(int)
    pitch = random.uniform(120, 400, syllable[-1] + 1)[syllable]
    loud = np.sin(np.pi * 4 * time) ** 2 * (syllable % 6 < 5)
    return (0.3 * loud * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def hush(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE), np.float32)
