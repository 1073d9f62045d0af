"""The golden prompts of each model family, their frames, and the recorded results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

SEED = 0  # of the tiny models' weights


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of a video in a prompt.

    Attributes:
        times: presentation time of each frame in seconds.
        width, height: of every frame in pixels, multiples of the family's vision token side.
        seed: of the pixels, see :func:`frames_of`.
        pairs: consecutive frames are merged in twos, as video; otherwise each frame is an image with its time written before it.
    """

    times: tuple[float, ...]
    width: int
    height: int
    seed: int
    pairs: bool = True


Messages: TypeAlias = tuple[tuple[str, tuple[str | Clip, ...]], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Attributes:
    messages: role and parts of each message; a reply is to follow.
    """

    name: str
    messages: Messages


def _every(seconds: float, count: int) -> tuple[float, ...]:
    return tuple(seconds * i for i in range(count))


def _asked(*parts: str | Clip) -> Messages:
    return (("system", ("You are a helpful assistant.",)), ("user", parts))


# Frames take at least 8 vision tokens: below that mtmd by default enlarges them.
_QWEN3_VL = (
    Case("text only", _asked('Is "a_b" in {"name": [1, 23]}?\n\n  Straße, 漢字, 3.14!')),
    # Half-second steps give mean times such as 0.25 s, where rounding to one decimal is a tie.
    Case("2 fps", _asked(Clip(_every(0.5, 6), 128, 96, seed=21), "What is shown in the video?")),
    Case("odd count, irregular times", _asked("Before ", Clip((3.0, 3.7, 5.1, 62.25, 734.9), 96, 160, seed=2), " after it.")),
    Case("one frame", _asked(Clip((12.04,), 128, 64, seed=3), "Who is it?")),
    Case("stills", _asked(Clip((1.0, 4.3, 100.0), 128, 96, seed=4, pairs=False), "Compare the frames.")),
    Case(
        "two turns",
        (
            ("user", (Clip(_every(1.0, 4), 96, 96, seed=5), "What is it?")),
            ("assistant", ("The red car stops.",)),
            ("user", (Clip((2.2, 2.4), 192, 128, seed=6), "And when?")),
        ),
    ),
)

_QWEN2_5_VL = (
    Case("text only", _asked('Is "a_b" in {"name": [1, 23]}?\n\n  Straße, 漢字, 3.14!')),
    # The video lasts for more temporal positions than its frames have columns: what follows starts after the last slice.
    Case("2 fps", _asked(Clip(_every(0.5, 6), 112, 84, seed=1), "What is shown in the video?")),
    # 1.25 s a slice are 2.5 temporal positions, cut to whole ones after multiplying.
    Case("fractional step", _asked("Before ", Clip(_every(0.625, 8), 84, 112, seed=12), " after it.")),
    # Windows of 4 by 4 tokens: frames of 6 by 5 need whole and partial ones.
    Case("windows", _asked(Clip(_every(0.5, 4), 168, 140, seed=3), "What is it?")),
    Case("odd count", _asked(Clip(_every(0.5, 5), 112, 112, seed=24), "Who is it?")),
    Case("stills", _asked(Clip((1.0, 4.3, 100.0), 112, 84, seed=15, pairs=False), "Compare the frames.")),
    Case(
        "two turns",
        (
            ("user", (Clip(_every(1.0, 4), 84, 84, seed=6), "What is it?")),
            ("assistant", ("The red car stops.",)),
            ("user", (Clip((2.0, 2.5), 168, 112, seed=7), "And when?")),
        ),
    ),
)

CASES = {"qwen3-vl": _QWEN3_VL, "qwen2.5-vl": _QWEN2_5_VL}


def frames_of(clip: Clip) -> list[NDArray[np.uint8]]:
    """RGB frames of shape ``(height, width, 3)``: slopes that drift from frame to frame, under noise."""
    noise = np.random.default_rng(clip.seed)
    x, y = np.meshgrid(np.arange(clip.width), np.arange(clip.height))
    frames = []
    for index in range(len(clip.times)):
        slopes = np.stack([(1 + clip.seed) * x + 40 * index, 2 * y - 25 * index, x + y + 60 * index], axis=-1)
        grain = np.frombuffer(noise.bytes(slopes.size), np.uint8).reshape(slopes.shape)
        frames.append((slopes % 192 + grain % 64).astype(np.uint8))
    return frames


@dataclass(frozen=True, slots=True)
class Expected:
    """What ``transformers`` computed in float32.

    Attributes:
        tokens: ids of the prompt. A vision token is ``<|video_pad|>``, or ``<|image_pad|>`` for stills.
        positions: time, height and width of each token, shape ``(3, len(tokens))``.
        logits: after the last token, shape ``(vocabulary,)``.
        greedy: the next ids when each time the likeliest is taken: eight, or fewer if then the two likeliest come within 0.05.
    """

    tokens: tuple[int, ...]
    positions: NDArray[np.int64]
    logits: NDArray[np.float64]
    greedy: tuple[int, ...]


def golden_file(family: str) -> Path:
    return Path(__file__).parent / f"{family}.json"


def expected(family: str) -> dict[str, Expected]:
    """The recorded results of a family's cases by name. ``make_golden.py`` describes the file."""
    recorded = json.loads(golden_file(family).read_text(encoding="utf-8"))
    return {
        name: Expected(tuple(case["tokens"]), np.array(case["positions"]), np.array(case["logits"]), tuple(case["greedy"]))
        for name, case in recorded["cases"].items()
    }
