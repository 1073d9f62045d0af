"""Decode a window until the text fits the sound.

Decoding goes wrong in known ways: it loops, guesses, writes ``[Music]`` where somebody speaks, or skips sentences. Each shows in the text
next to the amount of speech that the voice activity detector found, so each attempt is judged, and a poor one is followed by another. The
best one counts. The reference samples at rising temperatures instead; that invents words, and makes transcripts differ from run to run.

A window is decoded with the text before it as context, which helps most in noise. A context does harm, too: sentences are skipped, its
errors and its style are repeated. So an attempt that does not fit the sound is followed by one without the context.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

from sage_cli.speech.alignment import restamped, unwritten, without_annotations
from sage_cli.speech.noise import without_noise
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.phrases import ends_sentence
from sage_cli.speech.whisper import Samples, Token, Whisper
from sage_cli.speech.windows import Window

# The reference's sign of a loop: text that zlib makes this many times smaller (https://github.com/openai/whisper, decoding.py).
_COMPRESSION = 2.4
_ENTROPY_TOKENS = 32  # what whisper.cpp takes the entropy of

# Bytes of UTF-8 for a second of speech. Languages differ little in them: 12 to 16 in English and Chinese, 20 to 30 in Russian and Hindi.
_FEWEST, _MOST = 5.0, 60.0
_ENOUGH_SPEECH = 2.0  # seconds; of less, too little text says nothing
_SHORTEST = 0.3  # seconds that anything said takes
_BEAMS = 5
_LITTLE = "little text"
INVENTED = "text for hardly any speech"  # what Whisper makes of a click or a note, such as "Thank you for watching."
_RECENT = 300  # characters, more than a long sentence
PROGRESS = 1.0  # seconds that a window gets done at the least


@dataclass(frozen=True, slots=True)
class Decoded:
    """An attempt.

    Attributes:
        tokens: in order, timestamps among them.
        faults: what is wrong with it, by name, each with how bad it is; none if it is plausible.
    """

    tokens: tuple[Token, ...]
    faults: dict[str, float]

    @property
    def logprob(self) -> float:
        """The mean log-probability of the tokens."""
        return sum(token.logprob for token in self.tokens) / max(1, len(self.tokens))

    @property
    def badness(self) -> tuple[float, float]:
        """The less, the better."""
        return sum(self.faults.values()), -self.logprob

    @property
    def good(self) -> bool:
        return not self.faults

    @property
    def reliable(self) -> bool:
        """What there is of it is plausible."""
        return set(self.faults) <= {_LITTLE}


class Decoder:
    """A model with its options.

    Args:
        whisper: the model.
        options: how to listen.
        measured: the detector tells speech from other sounds, so that the amount of text can be held against it.
    """

    def __init__(self, whisper: Whisper, options: SpeechOptions, *, measured: bool) -> None:
        self._whisper, self._options, self._measured = whisper, options, measured

    def decode(self, window: Window, language: str, context: Sequence[int]) -> Decoded:
        """The best of as many attempts as it takes.

        Args:
            context: ids of the tokens of the windows before, the last ones count.
        """
        options = self._options
        denoised = options.denoise and not self._whisper.toy  # the bundled model was trained with the noise
        samples = without_noise(window.samples) if denoised else window.samples
        beams = options.beam_size or (1 if self._whisper.toy else _BEAMS)
        plan = replace(options, language=language, multilingual=False, beam_size=beams)
        prompts = self._prompts(context)
        best = self._attempt(window, samples, plan, prompts[0])
        if best.good or INVENTED in best.faults:
            return best
        if len(prompts) > 1 or beams > 1:
            best = min(best, self._attempt(window, samples, plan, prompts[-1], again=True), key=lambda one: one.badness)
        if best.good or (best.reliable and beams >= _BEAMS):  # a lesser search finds no more
            return best
        other = replace(plan, beam_size=_BEAMS if beams < _BEAMS else 1)
        return min(best, self._attempt(window, samples, other, []), key=lambda one: one.badness)

    def _attempt(self, window: Window, samples: Samples, plan: SpeechOptions, prompt: list[int], *, again: bool = False) -> Decoded:
        return self._judge(restamped(self._whisper.decode(samples, plan, prompt, again=again)), window)

    def _prompts(self, context: Sequence[int]) -> list[list[int]]:
        """Candidate contexts for a window, in the order to try them."""
        # The bundled model was trained with the context.
        used = bool(context) and (self._whisper.toy or _punctuated(self._whisper.tokenizer.decode(context)))
        return [[*self._prefix, *context], self._prefix] if used else [self._prefix]

    @cached_property
    def _prefix(self) -> list[int]:
        """The prefix of every window: hotwords and the prompt, as a phrase with timestamps.

        Whisper stops writing timestamps after a text that has none. At most half of the room is taken: the rest is for the context.
        """
        text = " ".join(part for part in (self._options.hotwords.replace(",", " ").strip(), self._options.prompt.strip()) if part)
        ids = self._whisper.tokenizer.encode(f" {text}")[-max(0, self._whisper.prompt_length // 2 - 2) :] if text else []
        first = self._whisper.first_stamp if ids else 0
        return [first, *ids, first + 100] if ids else []  # two seconds

    def _judge(self, tokens: list[Token], window: Window) -> Decoded:
        faults: dict[str, float] = {}
        text = b"".join(token.text for token in tokens)
        scored = [token.logprob for token in tokens]
        if scored and (average := sum(scored) / len(scored)) < self._options.logprob_threshold:
            faults["unlikely"] = self._options.logprob_threshold - average
        if text and (ratio := len(text) / len(zlib.compress(text))) > _COMPRESSION:
            faults["loop"] = ratio
        elif (entropy := _entropy(tokens)) < self._options.entropy_threshold:
            faults["loop"] = 1 + self._options.entropy_threshold - entropy
        missing = unwritten(tokens, window) if self._measured else None
        if missing is not None and missing < PROGRESS:  # one that comes later is heard again
            faults[_LITTLE] = 1.0
        if self._measured:
            speech, written = window.speech, sum(len(token.text) for token in without_annotations(tokens))
            if written > _MOST * max(speech, _SHORTEST):
                faults["much text" if speech >= _ENOUGH_SPEECH else INVENTED] = written / max(speech, _SHORTEST) / _MOST
            elif speech >= _ENOUGH_SPEECH and written < _FEWEST * speech:
                faults[_LITTLE] = 1.0 + (_FEWEST - written / speech) / _FEWEST
        return Decoded(tuple(tokens), faults)


def _punctuated(text: str) -> bool:
    """Whether a text ends sentences. One that does not would be imitated for the rest of a recording."""
    return any(ends_sentence(word) for word in text.strip()[-_RECENT:].split())


def _entropy(tokens: Sequence[Token]) -> float:
    """Of the last tokens, in nats, as whisper.cpp counts it; high where there are too few to tell."""
    if len(tokens) <= _ENTROPY_TOKENS:
        return float("inf")
    counts = Counter(token.id for token in tokens[-_ENTROPY_TOKENS:])
    return -sum(count / _ENTROPY_TOKENS * log(count / _ENTROPY_TOKENS) for count in counts.values())
