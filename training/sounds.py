"""What the nano whisper hears in training: recorded utterances in streams, cut into windows by ``sage_cli.speech`` itself.

A stream is utterances with pauses between them over faint noise. The detector and the packer of ``sage transcribe`` find the speech in it
and fill windows, so pauses, air and lengths are those that the trained model meets. What is said in a window, and when, is known.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.vad import EnergyGate, everything
from sage_cli.speech.windows import Packer, Window, find_speech
from training.speech import SAMPLE_RATE, speak

CONTEXT: Final = 240  # characters of the text before that a window is given, as the transcriber gives them


@dataclass(frozen=True, slots=True)
class Utterance:
    """A sentence as one voice says it, 16-bit at 16 kHz."""

    text: str
    sound: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence in a window. Times are seconds of the window; ``whole`` is false where the window ends before it does."""

    text: str
    start: float
    end: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Heard:
    """A window: its sound, what is said in it, and the end of what was said before."""

    sound: NDArray[np.float32]
    said: tuple[Said, ...]
    before: str


def record(voices: Sequence[str], texts: Sequence[str], each: int, seed: int, path: Path | None = None) -> list[Utterance]:
    """Every text in ``each`` of the voices, at some speed and pitch. With a path, recordings are kept there and taken from there."""
    if path is not None and path.exists():
        with np.load(path) as kept:
            edges = [0, *kept["ends"].tolist()]
            sound, said = kept["sound"], kept["texts"].tolist()
        return [Utterance(text, sound[first:last]) for text, (first, last) in zip(said, pairwise(edges), strict=True)]
    rng = random.Random(seed)
    utterances = []
    for text in texts:
        for voice in rng.sample(voices, min(each, len(voices))):
            spoken = speak(text, voice, rng.randint(135, 185), rng.randint(35, 65))
            utterances.append(Utterance(text, np.clip(spoken * 32767, -32768, 32767).astype(np.int16)))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ends = np.cumsum([len(utterance.sound) for utterance in utterances])
        np.savez(path, texts=[u.text for u in utterances], ends=ends, sound=np.concatenate([u.sound for u in utterances]))
    return utterances


def stream(rng: random.Random, utterances: Sequence[Utterance]) -> tuple[NDArray[np.float32], list[Said]]:
    """The utterances one after the other, and where they are, in seconds of the stream."""
    volume = rng.uniform(0.3, 1.1) / 32767
    longest = rng.choice((0.6, 1.0, 4.0))
    pieces: list[NDArray[np.float32]] = []
    said: list[Said] = []
    at = 0
    for utterance in utterances:
        pause = round(rng.uniform(0.2 if pieces else 0.02, longest) * SAMPLE_RATE)
        pieces += [np.zeros(pause, np.float32), utterance.sound * np.float32(volume)]
        at += pause
        said.append(Said(utterance.text, at / SAMPLE_RATE, (at + len(utterance.sound)) / SAMPLE_RATE))
        at += len(utterance.sound)
    sound = np.concatenate([*pieces, np.zeros(round(rng.uniform(0.02, longest) * SAMPLE_RATE), np.float32)])
    tilt = rng.uniform(-0.4, 0.4)  # another microphone
    sound[1:] += tilt * sound[:-1]
    quiet = rng.choice((0.0, 0.0005, 0.001, 0.003))
    if quiet:
        sound += quiet * np.random.default_rng(rng.getrandbits(32)).standard_normal(len(sound), np.float32)
    return sound, said


def windows(rng: random.Random, sound: NDArray[np.float32], said: Sequence[Said], longest: int, *, gate: bool = True) -> Iterator[Heard]:
    """The windows of a stream. A sentence that a window's end cuts is whole in the next one, as the transcriber goes back to its start.

    Args:
        longest: samples that go into a window.
        gate: leave long pauses out.
    """
    packer = Packer(find_speech([sound], EnergyGate() if gate else everything, SpeechOptions().vad_padding), longest)
    before = ""
    while (window := packer.next()) is not None:
        if not window.spans:
            continue
        inside = list(_inside(window, said))
        again = inside[-1].start if inside and not inside[-1].whole else None
        if again is not None and (again < 1.0 or window.speech_after(again) < 0.5):  # the transcriber would not go back
            inside.pop()
            again = None
        yield Heard(window.samples, tuple(inside), before)
        if again is not None:
            packer.take_back(window, again - rng.uniform(0.0, 0.1))
        before = _tail(" ".join([before, *(sentence.text for sentence in inside if sentence.whole)]).strip())


def noise(rng: random.Random) -> Heard:
    """A window in which nobody speaks."""
    level = 10 ** rng.uniform(-4, -1.5)
    length = round(rng.uniform(0.5, 4) * SAMPLE_RATE)
    return Heard(np.random.default_rng(rng.getrandbits(32)).standard_normal(length, np.float32) * np.float32(level), (), "")


def _inside(window: Window, said: Sequence[Said]) -> Iterator[Said]:
    """The sentences that begin in a window, on its clock."""
    spans = [(span.start / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in window.spans]

    def on_window(time: float) -> float:
        return sum(min(max(time - first, 0.0), last - first) for first, last in spans)

    for sentence in said:
        # The gate may open a little late, and close a little early.
        if any(first - 0.1 <= sentence.start < last for first, last in spans):
            yield Said(sentence.text, on_window(sentence.start), on_window(sentence.end), sentence.end <= spans[-1][1] + 0.1)


def _tail(text: str) -> str:
    tail = text[-CONTEXT:]
    return tail if len(tail) == len(text) else tail.partition(" ")[2]
