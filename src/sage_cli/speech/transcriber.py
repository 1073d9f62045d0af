"""Audio in, segments out: windows of speech, each decoded with the text before it, checked, and put back on the original clock."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import exp
from pathlib import Path

import numpy as np

from sage_cli.errors import ModelError, UsageError
from sage_cli.speech.segment import Segment, Word
from sage_cli.speech.vad import FRAME, Detector, EnergyGate, Silero, everything
from sage_cli.speech.whisper import MOST_BEAMS, RATE, Samples, Token, Whisper, languages
from sage_cli.speech.windows import Packer, Window, find_speech
from sage_cli.store.content import fingerprint

SURE_OF_LANGUAGE = 0.5  # probability from which a detected language holds for the rest of the audio

_CONTEXT = 240  # characters of text carried into the next window: names and style, not so much that an error feeds itself
_BLOCK = 30 * RATE
_UNHEARD = 0.5  # seconds of speech after the last timestamp that are worth another look
_PROGRESS = 1.0  # seconds that a window gets done at the least
_UNSPACED = frozenset(("zh", "ja", "yue", "th", "lo", "my", "km", "bo"))  # written without spaces: every token is a word

_VERSION = 1  # counts up when the same audio, model and options come to give another text

# The reference's signs of a failed decode: text that compresses this well is a loop, tokens this unlikely are guesses.
_LOOP = 2.4
_GUESS = -1.0
_REPEATED = re.compile(r"(.{2,80}?)\1{3,}", re.DOTALL)
_SILENCE = "[BLANK_AUDIO]"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that decoding the rest of the audio depends on.

    Attributes:
        position: samples of the stream that are done with.
        language: the language that is spoken, ``None`` while the model is not sure.
        context: the end of the text so far.
        clock: end of the last segment, in seconds from the start of the stream.
    """

    position: int = 0
    language: str | None = None
    context: str = ""
    clock: float = 0.0

    @property
    def seconds(self) -> float:
        return self.position / RATE


@dataclass(frozen=True, slots=True)
class Part:
    """The segments of one window, and where to go on after it."""

    segments: tuple[Segment, ...]
    after: Checkpoint


class Transcriber:
    """A Whisper model and how to use it.

    Args:
        model_path: a model in whisper.cpp's format (``ggml-*.bin``).
        language: Whisper's code for the language that is spoken; ``"auto"`` finds it out.
        threads: CPU threads; ``None`` for all cores this process may use, 8 at most.
        translate: write English, whatever is spoken (multilingual models).
        prompt: text that sets spelling and style, e.g. names that occur.
        beam_size: beams of a beam search; ``None`` decodes greedily, which is faster and nearly as good.
        temperature: of sampling; at 0, the likeliest token is taken. A poor window is tried again at higher ones.
        words: time every word, too.
        vad_model: a Silero model (``ggml-silero-*.bin``) to tell speech from the rest; ``None`` goes by loudness.
        vad: leave out what is not speech; ``False`` decodes everything.

    Raises:
        ModelError: a model file is missing or broken, or does not know the language.
        UsageError: an option that cannot work.

    Attributes:
        identity: of everything that the text depends on besides the audio: the same for the same model file and options.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        language: str = "auto",
        threads: int | None = None,
        translate: bool = False,
        prompt: str = "",
        beam_size: int | None = None,
        temperature: float = 0.0,
        words: bool = False,
        vad_model: str | os.PathLike[str] | None = None,
        vad: bool = True,
    ) -> None:
        if language != "auto" and language not in languages():
            raise UsageError(f"no language {language!r}: give one of Whisper's codes (en, de, zh ...) or auto")
        if beam_size is not None and not 1 <= beam_size <= MOST_BEAMS:
            raise UsageError(f"a beam search has 1 to {MOST_BEAMS} beams, not {beam_size}")
        if not 0.0 <= temperature <= 1.0:
            raise UsageError(f"the temperature is 0 to 1, not {temperature:g}")
        self._whisper = Whisper(model_path, threads=threads)
        if not self._whisper.multilingual and (translate or language not in ("auto", "en")):
            name = Path(model_path).name
            raise ModelError(f"{name} knows English only: use a multilingual model (without .en in its name) for other languages")
        self._detect: Detector = everything if not vad else EnergyGate() if vad_model is None else Silero(vad_model)
        self._language = language if self._whisper.multilingual else "en"
        self._translate, self._prompt, self._words = translate, prompt.strip(), words
        self._beam_size, self._temperature = beam_size, temperature
        ear = "all" if not vad else "loudness" if vad_model is None else fingerprint(Path(vad_model))
        options = (_VERSION, language, translate, self._prompt, beam_size, temperature, words, ear, "tdrz" in Path(model_path).name)
        self.identity = blake2b(f"{fingerprint(self._whisper.path)} {options}".encode(), digest_size=8).hexdigest()

    def stream(
        self, audio: Samples | Iterable[Samples], *, start: float = 0.0, progress: Callable[[float], None] | None = None
    ) -> Iterator[Segment]:
        """Transcribe, yielding segments window by window.

        Args:
            audio: mono ``float32`` at 16 kHz, as one array or in blocks of any length.
            start: seconds of the original media at which the audio starts; added to all times.
            progress: called with the seconds of the original media that are done.

        Yields:
            Segments in time order that do not overlap. None at all where nothing is said.

        Raises:
            ModelError: whisper.cpp failed.
        """
        for part in self.parts(audio, start=start):
            yield from part.segments
            if progress is not None:
                progress(start + part.after.seconds)

    def parts(self, audio: Samples | Iterable[Samples], *, start: float = 0.0, after: Checkpoint | None = None) -> Iterator[Part]:
        """As :meth:`stream`, a window at a time, with what is needed to go on from there.

        Args:
            after: where to go on. The audio is that of the first run, from its start: what is done is skipped without work. The
                parts that follow are those that an uninterrupted run would have yielded.
        """
        blocks = (audio[at : at + _BLOCK] for at in range(0, len(audio), _BLOCK)) if isinstance(audio, np.ndarray) else audio
        state = after or Checkpoint()
        packer = Packer(find_speech(blocks, self._detect, state.position), self._whisper.longest)
        while (window := packer.next()) is not None:
            segments: list[Segment] = []
            position = window.resume
            if window.spans:
                segments, state, heard = self._transcribe(window, state)
                if heard is not None:
                    position = packer.take_back(window, heard)
            state = replace(state, position=position)
            yield Part(tuple(_shifted(segment, start) for segment in segments), state)

    def close(self) -> None:
        """Free the model's memory."""
        self._whisper.close()

    # ---- one window ------------------------------------------------------------------------------------------------

    def _transcribe(self, window: Window, state: Checkpoint) -> tuple[list[Segment], Checkpoint, float | None]:
        """The segments, what the next window depends on, and from where this one is to be heard again, if it is."""
        samples = window.samples
        language, sure = state.language or self._language, True
        if language == "auto":
            language, probability = self._whisper.language(samples)
            sure = probability >= SURE_OF_LANGUAGE
        tokens, good = self._hear(samples, language, state.context)
        heard = _heard(tokens, window)
        segments: list[Segment] = []
        clock = state.clock
        for stretch in (part for whole in _stretches(tokens, heard or window.seconds) for part in _apart(whole, window, language)):
            segment = self._segment(stretch, window, language, clock, loops=not good)
            if segment is not None:
                segments.append(segment)
                clock = segment.end
        said = " ".join(segment.text for segment in segments)
        context = _tail(f"{state.context} {said}".strip()) if good else ""
        return segments, replace(state, language=language if sure else None, context=context, clock=clock), heard

    def _hear(self, samples: Samples, language: str, context: str) -> tuple[list[Token], bool]:
        """Decode until it looks right: with the context, without it (it may be what the model loops on), then ever hotter.

        Returns:
            The tokens, and whether the next window may rely on them.
        """

        def hear(prompt: str, temperature: float, climb: bool = False) -> list[Token]:
            return self._whisper.hear(
                samples,
                language=language,
                prompt=prompt,
                translate=self._translate,
                beam_size=self._beam_size,
                temperature=temperature,
                climb=climb,
            )

        tokens = hear(f"{self._prompt} {context}".strip(), self._temperature)
        if _plausible(tokens):
            return tokens, True
        if context:
            tokens = hear(self._prompt, self._temperature)
            if _plausible(tokens):
                return tokens, True
        return hear(self._prompt, min(1.0, self._temperature + 0.2), climb=True), False

    def _segment(self, stretch: _Stretch, window: Window, language: str, clock: float, *, loops: bool) -> Segment | None:
        """A stretch of the window as a segment; ``None`` if it holds no text or no speech."""
        text = _text(stretch.tokens)
        place = window.tighten(stretch.start, stretch.end)
        if not text or text == _SILENCE or place is None:
            return None
        words = self._timed(stretch.tokens, window, place, language, clock) if self._words else ()
        if loops and (found := _REPEATED.search(text)) is not None:
            text = text[: found.start()] + found[1] + text[found.end() :]
            words = ()
        start, end = window.on_clock(*place)
        start = max(start, clock)
        return Segment(
            start=start,
            end=max(end, start + FRAME / RATE),
            text=text,
            confidence=_confidence(stretch.tokens),
            words=words,
            speaker_turn=any(token.turn for token in stretch.tokens),
            language=language,
        )

    @staticmethod
    def _timed(tokens: list[Token], window: Window, place: tuple[float, float], language: str, clock: float) -> tuple[Word, ...]:
        """The words of a stretch. Whisper times segments only: the speech in it is shared out by the length of the words."""
        groups = _words(tokens, language)
        lengths = np.cumsum([0, *(len(_text(group)) + 1 for group in groups)])
        edges = window.share(*place, (lengths / lengths[-1]).tolist())
        words = []
        for group, first, last in zip(groups, edges[:-1], edges[1:], strict=True):
            start, end = window.word_on_clock(first, last)
            start = max(start, clock)
            clock = max(start, end)
            words.append(Word(start, clock, _text(group), _confidence(group)))
        return tuple(word for word in words if word.text)


# ---- tokens --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stretch:
    """Tokens between two timestamps, in seconds of the window."""

    start: float
    end: float
    tokens: list[Token]


def _stretches(tokens: list[Token], seconds: float) -> Iterator[_Stretch]:
    """Split at the timestamps; what stands after the last one ends with the window, what lies past its end is left out."""
    start, held = 0.0, list[Token]()
    for token in [*tokens, Token(b"", 0.0, time=seconds)]:
        if token.time is None:
            held.append(token)
            continue
        if any(token.text for token in held) and start < seconds:
            yield _Stretch(start, min(max(token.time, start), seconds), held)
        start, held = token.time, []


def _heard(tokens: list[Token], window: Window) -> float | None:
    """Where the model stopped listening, in seconds of the window, if there is speech after that; ``None`` if it heard all of it.

    It may end early, and the last sentence of a full window may go on after the cut: that is heard again, with what follows.
    """
    stamps = [(number, token.time) for number, token in enumerate(tokens) if token.time is not None]
    if not stamps:
        return None
    number, last = stamps[-1]
    unfinished = any(token.text for token in tokens[number:])
    if last < _PROGRESS or (unfinished and not window.cut) or window.speech_after(last) < _UNHEARD:
        return None
    return last


def _apart(stretch: _Stretch, window: Window, language: str) -> Iterator[_Stretch]:
    """Divide a stretch where it spans a long pause that was left out of the window: between the words that the pause's place suggests."""
    for pause in window.pauses(stretch.start, stretch.end):
        groups = _words(stretch.tokens, language)
        lengths = np.cumsum([0, *(sum(len(token.text) for token in group) for group in groups)])
        before = window.fraction(stretch.start, stretch.end, pause)
        cut = int(np.argmin(np.abs(lengths / max(1, lengths[-1]) - before)))
        if cut:
            yield _Stretch(stretch.start, pause, [token for group in groups[:cut] for token in group])
        stretch = _Stretch(pause, stretch.end, [token for group in groups[cut:] for token in group])
    if any(token.text for token in stretch.tokens):
        yield stretch


def _words(tokens: list[Token], language: str) -> list[list[Token]]:
    """The tokens word by word."""
    groups: list[list[Token]] = []
    complete = True
    for token in tokens:
        if not groups or (complete and token.text and (token.text.startswith(b" ") or language in _UNSPACED)):
            groups.append([])
        groups[-1].append(token)
        complete = _decodes(b"".join(token.text for token in groups[-1]))
    return groups


def _plausible(tokens: list[Token]) -> bool:
    if not tokens:
        return True
    text = b"".join(token.text for token in tokens)
    likely = sum(token.logprob for token in tokens) / len(tokens) >= _GUESS
    return likely and (not text or len(text) / len(zlib.compress(text)) <= _LOOP)


def _text(tokens: Iterable[Token]) -> str:
    return b"".join(token.text for token in tokens).decode(errors="replace").strip()


def _tail(text: str) -> str:
    """The end of a text, from the start of a word on."""
    tail = text[-_CONTEXT:]
    return tail if len(tail) == len(text) else tail.partition(" ")[2] or tail


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _confidence(tokens: Iterable[Token]) -> float:
    logprobs = [token.logprob for token in tokens if token.text]
    return exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0


def _shifted(segment: Segment, seconds: float) -> Segment:
    words = tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in segment.words)
    return replace(segment, start=segment.start + seconds, end=segment.end + seconds, words=words)
