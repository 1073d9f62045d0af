"""What is said in the synthetic world, and its sound: sentences that tell facts, spoken by espeak-ng in several voices.

The vocabulary is small on purpose: the nano whisper has to learn all of it. Some combinations of sentence and value, and some voices, are
kept out of training altogether (:func:`held_out`, :data:`TEST_VOICES`).
"""

from __future__ import annotations

import random
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.world import SHAPES, Line, Thing, World

SAMPLE_RATE: Final = 16_000


@dataclass(frozen=True, slots=True)
class Fact:
    """A kind of fact: its values, the sentences that tell one, the question it answers, and the replies."""

    values: tuple[str, ...]
    sentences: tuple[str, ...]
    question: str
    answer: str
    missing: str


FACTS: Final[dict[str, Fact]] = {
    "number": Fact(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
        ("The secret number is {}.", "Remember the number {}.", "The number is {}."),
        "Which number is spoken",
        "The number is {}.",
        "No number is spoken.",
    ),
    "animal": Fact(
        ("tiger", "rabbit", "horse", "monkey", "elephant", "penguin", "spider", "dolphin"),
        ("I can see a {}.", "My favorite animal is the {}.", "The animal is a {}."),
        "Which animal is named",
        "The animal is a {}.",
        "No animal is named.",
    ),
    "name": Fact(
        ("Anna", "Peter", "Maria", "David", "Sophie", "Robert", "Julia", "Oscar"),
        ("My name is {}.", "Hello, I am {}.", "The speaker is called {}."),
        "What is the name of the speaker",
        "The speaker is called {}.",
        "No name is spoken.",
    ),
    "city": Fact(
        ("Paris", "London", "Berlin", "Tokyo", "Madrid", "Chicago", "Sydney", "Vienna"),
        ("Welcome to {}.", "We are in {} today.", "The city is {}."),
        "Which city is named",
        "The city is {}.",
        "No city is named.",
    ),
}
FILLERS: Final = ("Thank you for watching.", "The weather is nice today.", "Please look at the screen.", "This is a short video.")
CUES: Final = ("Now you can see the {}.", "Look at the {} now.", "Here comes the {}.")
SPEAKER: Final = "espeak-ng"
SPEAKING_RATE: Final = 2.4  # words a second: roughly espeak-ng's 160 words a minute; only used to keep lines apart

# espeak-ng: language, and a variant that changes the speaker.
TRAIN_VOICES: Final = tuple(
    f"{language}{variant}"
    for language in ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland")
    for variant in ("", "+m1", "+m2", "+m3", "+m6", "+f1", "+f2", "+f4")
)
TEST_VOICES: Final = ("en-us+m4", "en-us+f3", "en-gb+m4", "en-gb+f3", "en-gb-x-gbclan+m1", "en-us+m7")


def held_out(text: str) -> bool:
    """Whether a sentence is kept for testing: one in eight, by its own hash, so that no list has to be kept."""
    return zlib.crc32(text.encode()) % 8 == 0


def all_sentences() -> list[str]:
    """Every sentence that can be said."""
    told = [sentence.format(value) for fact in FACTS.values() for sentence in fact.sentences for value in fact.values]
    return [*told, *(cue.format(shape) for cue in CUES for shape in SHAPES), *FILLERS]


# ---- lines ---------------------------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    return max(1.2, len(text.split()) / SPEAKING_RATE)


def announce(rng: random.Random, thing: Thing, middle: float) -> Line:
    """A sentence that announces a thing, said around a time."""
    text = rng.choice(CUES).format(thing.shape)
    half = _seconds(text) / 2
    return Line(middle - half, middle + half, text, "cue", thing.shape)


def tell(rng: random.Random, kind: str, duration: float, others: Sequence[Line]) -> Line | None:
    """A fact (or filler) told at a time when nothing else is said; ``None`` when no such time was found."""
    if kind == "filler":
        text, value = rng.choice(FILLERS), ""
    else:
        value = rng.choice(FACTS[kind].values)
        text = rng.choice(FACTS[kind].sentences).format(value)
    length = _seconds(text)
    for _ in range(20):
        start = rng.uniform(0.3, max(0.3, duration - length - 0.5))
        if all(start + length + 1 < line.start or line.end + 1 < start for line in others):
            return Line(start, start + length, text, kind, value)
    return None


# ---- sound ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def speak(text: str, voice: str, speed: int = 160, pitch: int = 50) -> NDArray[np.float32]:
    """Speech as 16 kHz mono, by espeak-ng. Silence at both ends is cut off.

    Raises:
        FileNotFoundError: espeak-ng is not installed.
    """
    import av  # writing down what is said needs no decoder

    command = [SPEAKER, "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(wav, np.int16, offset=44)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = 22_050
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    sound = np.concatenate([out.to_ndarray()[0] for given in (frame, None) for out in resampler.resample(given)])
    loud = np.flatnonzero(np.abs(sound) > 0.01)
    return sound[max(0, loud[0] - 400) : loud[-1] + 800] if len(loud) else sound


def soundtrack(world: World, voice: str, noise: float = 0.001, seed: int = 0) -> NDArray[np.float32]:
    """The sound of a world: its lines at their times over faint noise, which begins a second before each and ends a second after.

    Between them is digital silence: an hour of it is encoded in seconds.
    """
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(world.duration * SAMPLE_RATE), np.float32)
    for line in world.lines:
        around = sound[max(0, round((line.start - 1) * SAMPLE_RATE)) : round((line.end + 1) * SAMPLE_RATE)]
        around += rng.normal(0, noise, len(around)).astype(np.float32)
        said = speak(line.text, voice)
        start = round(line.start * SAMPLE_RATE)
        room = len(sound) - start
        sound[start : start + len(said)] += 0.8 * said[: max(0, room)]
    return sound
