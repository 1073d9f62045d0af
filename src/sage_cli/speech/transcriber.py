"""Transcribe audio: decode windows of speech, check each, and put its words back on the original clock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sage_cli.errors import ModelError
from sage_cli.speech.alignment import SLIP, TimedWord, align, on_clock, spoken, unwritten, without_annotations, written
from sage_cli.speech.decoding import INVENTED, PROGRESS, Decoded, Decoder
from sage_cli.speech.languages import LanguageFinder
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.phrases import Placed, segments, together
from sage_cli.speech.segment import Segment
from sage_cli.speech.vad import Detector, EnergyGate, Silero, bundled_silero, everything
from sage_cli.speech.whisper import RATE, SECONDS_PER_STAMP, Samples, Token, Whisper, check_language
from sage_cli.speech.windows import Packer, Window, find_speech
from sage_cli.store.content import fingerprint

_BLOCK = 30 * RATE
_UNHEARD = 0.5  # seconds of speech after the last timestamp from which they are decoded again

_LONG = 10.0  # seconds of speech in a window that is worth dividing

_VERSION = 12  # increases when a change of the code changes transcripts

_CONTEXT = 110  # tokens; twice as many cost 5 to 10 % of the time and made no fewer errors
_TOY_CONTEXT = 48  # tokens, about the 240 characters that training/sounds.py gives
_REPEATED = re.compile(r"(.{2,80}?)\1{3,}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that decoding the rest of the audio depends on.

    Attributes:
        position: samples of the stream that are finished.
        language: the language of the windows so far; ``None`` before the first.
        context: ids of the last tokens, timestamps included: the context of the next window.
        clock: end of the last segment, in seconds from the start of the stream.
    """

    position: int = 0
    language: str | None = None
    context: tuple[int, ...] = ()
    clock: float = 0.0

    @property
    def seconds(self) -> float:
        return self.position / RATE


@dataclass(frozen=True, slots=True)
class Part:
    """The segments of one window, and the checkpoint after it."""

    segments: tuple[Segment, ...]
    after: Checkpoint


class Transcriber:
    """A Whisper model with its options.

    Args:
        model_path: a model in whisper.cpp's format (``ggml-*.bin``).
        options: of speech recognition.
        threads: CPU threads; ``None`` for all cores this process may use, 8 at most.
        remember: the fingerprints of the models on disk.

    Raises:
        ModelError: a model file is missing or broken, or does not know the language.
        UsageError: an option that cannot work.

    Attributes:
        options: of speech recognition.
        identity: a hash of the model file, the options, the detector and the libraries. With equal identities, equal audio gives equal
            transcripts.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        options: SpeechOptions | None = None,
        *,
        threads: int | None = None,
        remember: bool = True,
    ) -> None:
        self.options = options = options or SpeechOptions()
        check_language(options.language)
        self._whisper = Whisper(model_path, threads=threads)
        if not self._whisper.multilingual and (options.translate or options.multilingual or options.language not in ("auto", "en")):
            name = Path(model_path).name
            raise ModelError(f"{name} knows English only: use a multilingual model (without .en in its name) for other languages")
        self._detect, detector = self._detector(remember)
        self._decoder = Decoder(self._whisper, options, measured=isinstance(self._detect, Silero))
        self._languages = LanguageFinder(self._whisper)
        libraries = version("pywhispercpp"), version("av")  # whisper.cpp, and what decodes the sound
        known = (_VERSION, *libraries, *options.values(), detector, "tdrz" in Path(model_path).name)
        self.identity = blake2b(f"{fingerprint(self._whisper.path, remember=remember)} {known}".encode(), digest_size=8).hexdigest()

    @property
    def name(self) -> str:
        """The name of the model's file, without its suffix."""
        return self._whisper.path.stem

    @property
    def device(self) -> str | None:
        """What the model runs on, e.g. ``"CPU"`` or ``"CUDA0"``; ``None`` before it is loaded, which the first window does."""
        return self._whisper.device

    def stream(self, audio: Samples | Iterable[Samples], *, start: float = 0.0, language: str | None = None) -> Iterator[Segment]:
        """Transcribe one stretch of audio, yielding segments window by window.

        Args:
            audio: mono ``float32`` at 16 kHz, as one array or in blocks of any length.
            start: seconds of the original media at which the audio starts; added to all times.
            language: the language where the options say ``auto`` and it is known already.

        Yields:
            Segments in time order that do not overlap. None where nobody speaks.

        Raises:
            ModelError: whisper.cpp failed.
        """
        for part in self.parts(audio, start=start, language=language):
            yield from part.segments

    def parts(
        self,
        audio: Samples | Iterable[Samples],
        *,
        start: float = 0.0,
        after: Checkpoint | None = None,
        language: str | None = None,
    ) -> Iterator[Part]:
        """As :meth:`stream`, one window at a time, with a checkpoint after each.

        Args:
            after: the checkpoint to resume from. Pass the same audio, from its start: finished windows are skipped without work. The
                remaining parts equal those of an uninterrupted run.
        """
        state = after or Checkpoint()
        if state.language is None:
            state = replace(state, language=language or self._fixed_language)
        packer = self._packer(_blocks(audio), state.position)
        while (window := packer.next()) is not None:
            found: list[Segment] = []
            position = window.resume
            if window.spans:
                found, state, again = self._transcribe(window, state)
                if again is not None:
                    position = packer.take_back(window, again)
            state = replace(state, position=position)
            yield Part(tuple(_shifted(segment, start) for segment in found), state)

    def guess_languages(self, audio: Samples | Iterable[Samples]) -> Iterator[tuple[str, float]]:
        """Whisper's code of the language of every window, and its probability; ``""`` of one without speech."""
        packer = self._packer(_blocks(audio), 0)
        while (window := packer.next()) is not None:
            yield self._whisper.language(window.samples) if window.spans else ("", 0.0)

    @property
    def needs_language(self) -> bool:
        """The language is to be detected once, before anything is decoded."""
        return self._fixed_language is None and not self.options.multilingual

    def close(self) -> None:
        """Free the model's memory."""
        self._whisper.close()

    def interrupt(self) -> None:
        """From any thread: end the window under way; who waits for it gets a KeyboardInterrupt."""
        self._whisper.interrupt()

    def speech_flags(self, samples: Samples) -> np.ndarray:
        """The detector's flag for each frame of 512 samples."""
        return self._detect(samples)

    # ---- one window ------------------------------------------------------------------------------------------------

    def _transcribe(self, window: Window, state: Checkpoint) -> tuple[list[Segment], Checkpoint, float | None]:
        """The segments, the next checkpoint, and the second of the window from which to decode again, if any."""
        language, border = state.language, None
        if self.options.multilingual:
            language, border = self._languages.of_window(window, state.language)
            if border is not None:
                window = window.until(border)
        elif language is None:
            language, _ = self._whisper.language(window.samples)
        same = language == state.language or state.language is None
        context = state.context if self.options.context and same else ()
        window, decoded, shortened = self._decode(window, language or "en", context)
        border = border if shortened is None else shortened
        tokens, again = self._heard(decoded.tokens, window)
        again = border if again is None else again
        words = [] if INVENTED in decoded.faults else _with_speech(spoken(align(tokens, window, language or "en")))
        if "loop" in decoded.faults:
            words = _without_repeats(words)
        placed, clock = self._place(words, window, state.clock)
        ids = self._context(context, tokens) if decoded.reliable else ()
        return list(segments(placed, language or "en")), replace(state, language=language, context=ids, clock=clock), again

    def _decode(self, window: Window, language: str, context: Sequence[int]) -> tuple[Window, Decoded, float | None]:
        """Decode a window, or as much of its first half as comes out well where the whole does not.

        Returns:
            What was decoded, the text, and where the rest begins in seconds of the window; ``None`` if nothing is left.
        """
        decoded = self._decoder.decode(window, language, context)
        part, border = window, None
        while not decoded.reliable and part.speech >= _LONG:
            border = part.middle()
            part = part.until(border)
            if (found := self._decoder.decode(part, language, context)).reliable:
                return part, found, border
        return window, decoded, None

    def _context(self, before: tuple[int, ...], tokens: Sequence[Token]) -> tuple[int, ...]:
        """The context of the next window: the ids of the last tokens, as many as fit."""
        kept = without_annotations(tokens)
        room = min(self._whisper.prompt_length, _CONTEXT)
        if self._whisper.toy:  # trained on text without timestamps, and on little of it
            kept, room = [token for token in kept if token.text], min(room, _TOY_CONTEXT)
        return (*before, *(token.id for token in kept))[-room:] if kept and room else ()

    def _heard(self, tokens: Sequence[Token], window: Window) -> tuple[list[Token], float | None]:
        """The tokens to keep, and the second of the window from which to decode again; ``None`` if all of it was decoded."""
        missing = unwritten(tokens, window) if isinstance(self._detect, Silero) else None
        if missing is not None and missing >= PROGRESS:
            kept = [number for number, token in enumerate(tokens) if token.spoken_until is not None and token.spoken_until < missing + SLIP]
            stamp = self._whisper.first_stamp + round(missing / SECONDS_PER_STAMP)
            return [*tokens[: kept[-1] + 1 if kept else 0], Token(stamp, b"", 0.0, time=missing)], missing
        again = _unheard(tokens, window)
        return _until(tokens, again) if again is not None else list(tokens), again

    @staticmethod
    def _place(words: list[TimedWord], window: Window, clock: float) -> tuple[list[Placed], float]:
        placed = []
        for number, timed in enumerate(words):
            word = on_clock(timed, window, clock)
            clock = word.end
            placed.append(Placed(word, written(timed.tokens), timed.stamped and number > 0, timed.turn))
        placed = together([p for p in placed if p.word.text])
        return placed, placed[-1].word.end if placed else clock

    def _packer(self, blocks: Iterable[Samples], position: int) -> Packer:
        return Packer(find_speech(blocks, self._detect, self.options.vad_padding, position), self._whisper.longest)

    @property
    def _fixed_language(self) -> str | None:
        if not self._whisper.multilingual:
            return "en"
        return None if self.options.language == "auto" else self.options.language

    def _detector(self, remember: bool) -> tuple[Detector, str]:
        """The voice activity detector, and what identifies it."""
        if not self.options.vad:
            return everything, "everything"
        if self._whisper.toy:  # trained on synthetic sound, which Silero rightly takes for no speech
            return EnergyGate(), "loudness"
        path = bundled_silero()
        return Silero(path, on=self.options.vad_threshold), fingerprint(path, remember=remember)


# ---- tokens --------------------------------------------------------------------------------------------------------


def _unheard(tokens: Sequence[Token], window: Window) -> float | None:
    """Where the model stopped, in seconds of the window, if speech follows; else ``None``.

    It may stop early, and the last sentence of a full window may continue after the cut: that is decoded again, with what follows.
    """
    stamps = [(number, token.time) for number, token in enumerate(tokens) if token.time is not None]
    if not stamps:
        return None
    number, last = stamps[-1]
    unfinished = any(token.text for token in tokens[number:])
    if last < PROGRESS or (unfinished and not window.cut) or window.speech_after(last) < _UNHEARD:
        return None
    return last


def _until(tokens: Sequence[Token], seconds: float) -> list[Token]:
    """The tokens up to the last timestamp at ``seconds``."""
    last = max((number for number, token in enumerate(tokens) if token.time is not None and token.time <= seconds), default=len(tokens) - 1)
    return list(tokens[: last + 1])


def _with_speech(words: list[TimedWord]) -> list[TimedWord]:
    """The words, without phrases (words between two of the model's timestamps) that are placed where nobody speaks."""
    kept: list[TimedWord] = []
    run: list[TimedWord] = []
    for word in words:
        if word.stamped:
            kept += run if any(w.heard for w in run) else []
            run = []
        run.append(word)
    return kept + (run if any(w.heard for w in run) else [])


def _without_repeats(words: list[TimedWord]) -> list[TimedWord]:
    """The words, with a run of repetitions reduced to its first occurrence."""
    text, ends = "", []
    for word in words:
        text += written(word.tokens)
        ends.append(len(text))
    found = _REPEATED.search(text)
    if found is None:
        return words
    first, last = found.start() + len(found[1]), found.end()
    return [word for word, end in zip(words, ends, strict=True) if end <= first or end > last]


def _blocks(audio: Samples | Iterable[Samples]) -> Iterable[Samples]:
    return (audio[at : at + _BLOCK] for at in range(0, len(audio), _BLOCK)) if isinstance(audio, np.ndarray) else audio


def _shifted(segment: Segment, seconds: float) -> Segment:
    words = tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in segment.words)
    return replace(segment, start=segment.start + seconds, end=segment.end + seconds, words=words)
