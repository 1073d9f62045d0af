"""The synthetic world: videos of coloured shapes whose whole truth is known.

A video is a sequence of *scenes*, each showing one thing (a shape in a colour) that drifts slowly over a dark background. Long videos also
hold *flashes*: for a few seconds another thing takes the scene's place, short enough to fall between the sampled frames. A speaker says
*lines* at known times. Shapes and colours never repeat inside one video, so every question has one answer.

Nothing here touches files: :meth:`World.render` draws the frame at any time, so training needs no decoder. :mod:`training.clips` writes the
same world as a video file.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 220, 50),
    "white": (240, 240, 240),
    "purple": (160, 50, 200),
    "orange": (240, 140, 30),
    "cyan": (40, 210, 220),
}
SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "diamond")
SIZE: Final = 96  # pixels a side, as drawn for the model; files may hold any multiple
MIN_SCENE: Final = 1 / 6  # of the duration: every scene starts some sampled slice


@dataclass(frozen=True, slots=True)
class Thing:
    shape: str
    colour: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A stretch of video, in seconds, that shows one thing; ``seed`` decides where it is and how it drifts."""

    start: float
    end: float
    thing: Thing
    seed: int


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence spoken from ``start`` to ``end`` (seconds). ``fact`` is what it tells: its kind and its value."""

    start: float
    end: float
    text: str
    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class World:
    """One video's truth. ``flashes`` lie inside scenes and hide them; ``lines`` are in time order and do not overlap."""

    duration: float
    scenes: tuple[Scene, ...]
    flashes: tuple[Scene, ...]
    lines: tuple[Line, ...]
    background: tuple[int, int, int]

    def shown(self, time: float) -> Scene:
        """The scene or flash on screen at a time."""
        for flash in self.flashes:
            if flash.start <= time < flash.end:
                return flash
        return next((scene for scene in self.scenes if time < scene.end), self.scenes[-1])

    def render(self, time: float, size: int = SIZE) -> NDArray[np.uint8]:
        """The frame at a time: RGB, shape ``(size, size, 3)``, without noise (see :func:`degrade`)."""
        scene = self.shown(time)
        image = np.full((size, size, 3), self.background, np.uint8)
        draw(image, scene, (time - scene.start) / (scene.end - scene.start))
        return image


# ---- drawing -------------------------------------------------------------------------------------------------------


def _outlines() -> dict[str, NDArray[np.float64]]:
    """Each polygon's corners around the origin, for a radius of one."""
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.1, 0.45)
    a, b = 0.3, 1.0
    return {
        "square": np.array([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        "triangle": np.array([(0, -1), (1, 0.9), (-1, 0.9)]),
        "diamond": np.array([(0, -1.1), (0.8, 0), (0, 1.1), (-0.8, 0)]),
        "cross": np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]),
        "star": np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1),
    }


_OUTLINES: Final = _outlines()


def draw(image: NDArray[np.uint8], scene: Scene, progress: float) -> None:
    """Draw a scene's thing into ``image``; ``progress`` runs from 0 to 1 over the scene."""
    size = image.shape[0]
    rng = random.Random(scene.seed)
    radius = size * rng.uniform(0.27, 0.39)
    start = [rng.uniform(0.42, 0.58) for _ in range(2)]
    end = [rng.uniform(0.42, 0.58) for _ in range(2)]
    x, y = (size * (a + (b - a) * progress) for a, b in zip(start, end, strict=True))
    colour = tuple(int(np.clip(channel + rng.uniform(-14, 14), 0, 255)) for channel in COLOURS[scene.thing.colour])
    if scene.thing.shape == "circle":
        cv2.circle(image, (round(x), round(y)), round(radius), colour, -1, cv2.LINE_AA)
    else:
        corners = np.round(_OUTLINES[scene.thing.shape] * radius + (x, y)).astype(np.int32)
        cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)


def degrade(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a lossy codec and a resize may do to frames, shape ``(n, size, size, 3)``: blur, a shift of brightness, noise."""
    result = frames
    if rng.random() < 0.5:
        result = np.stack([cv2.GaussianBlur(frame, (3, 3), 0) for frame in result])
    noise = rng.integers(-5, 6, size=result.shape, dtype=np.int8)
    return np.clip(result + (noise + np.int16(rng.integers(-8, 9))), 0, 255).astype(np.uint8)


# ---- making worlds -------------------------------------------------------------------------------------------------


def some_things(rng: random.Random, count: int) -> list[Thing]:
    """Things that share neither shape nor colour."""
    return [Thing(s, c) for s, c in zip(rng.sample(SHAPES, count), rng.sample(list(COLOURS), count), strict=True)]


def some_scenes(rng: random.Random, duration: float, things: list[Thing]) -> tuple[Scene, ...]:
    """The things one after the other over the duration, none shorter than :data:`MIN_SCENE`."""
    spare = 1 - MIN_SCENE * len(things)
    cuts = sorted(rng.uniform(0, spare) for _ in things[1:])
    edges = [0.0, *(duration * (cut + MIN_SCENE * (i + 1)) for i, cut in enumerate(cuts)), duration]
    return tuple(Scene(edges[i], edges[i + 1], thing, rng.getrandbits(32)) for i, thing in enumerate(things))


def background(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(0, 50), rng.randint(0, 50), rng.randint(0, 50)
