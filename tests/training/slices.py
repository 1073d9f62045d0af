"""Slices of a video, and prompts of control tokens with slices in them. Needs torch: import it after the checks for that."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from training.model import CONTROL, IMAGE_PAD, SLICE_TOKENS
from training.vision import some_pairs, some_slices

CONTROL_IDS = {text: number for number, text in enumerate(CONTROL)}
PAD = CONTROL_IDS[IMAGE_PAD]


def three_slices() -> Any:
    return some_slices(random.Random(0), np.random.default_rng(0), some_pairs(random.Random(0), 3))[0]


def prompt(slices: int) -> list[int]:
    start, end = CONTROL_IDS["<|vision_start|>"], CONTROL_IDS["<|vision_end|>"]
    ids = [20, 21]
    for number in range(slices):
        ids += [30 + number, start, *[PAD] * SLICE_TOKENS, end]
    return [*ids, 40, 41]
