"""Sounds that swing as speech does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
RATE = 16000


def babble(seconds: float, seed: int = 0) -> Sound:
    """Syllables of changing pitch, four a second, with a short pause after every sixth: to an ear for loudness, speech."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    syllable = (time * 4).astype(int)
    pitch = random.uniform(120, 400, syllable[-1] + 1)[syllable]
    loud = np.sin(np.pi * 4 * time) ** 2 * (syllable % 6 < 5)
    return np.asarray(0.3 * loud * np.sin(2 * np.pi * pitch * time), np.float32)


def hush(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE), np.float32)
