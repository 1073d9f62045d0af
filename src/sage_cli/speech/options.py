"""The options of speech recognition."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from sage_cli.errors import UsageError

MOST_BEAMS = 8  # WHISPER_MAX_DECODERS


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechOptions:
    """Options of a transcript. The defaults gave the fewest word errors on recorded speech.

    Attributes:
        language: Whisper's code of the language that is spoken; ``"auto"`` detects it once for the whole recording.
        multilingual: detect the language again wherever it may change (``language`` must be ``"auto"``).
        translate: write English, whatever is spoken (multilingual models).
        prompt: text that sets spelling and style; put before every window.
        hotwords: words that are likely to occur, separated by spaces or commas; put before every window.
        context: give the model what it wrote for the windows before.
        beam_size: beams of a beam search, 1 to 8; 1 decodes greedily. ``None``: 5, as in other programs.
        temperature: of sampling, 0 to 1. At 0 the most likely token is taken.
        no_speech_threshold: a window whose no-speech probability is above this, and whose text is unlikely, is silence.
        entropy_threshold: below this entropy of the last 32 tokens, a text counts as a loop and is decoded again.
        logprob_threshold: below this average log-probability of the tokens, a text counts as a guess and is decoded again.
        suppress_regex: tokens that match this regular expression as a whole are never written.
        suppress_non_speech: never write tokens of annotations and music, such as ``[`` and ``♪``.
        denoise: take steady noise out of the sound before it is decoded.
        vad: leave out what is not speech; ``False`` decodes everything.
        vad_threshold: probability of speech from which Silero lets it begin. It ends 0.15 below.
        vad_padding: seconds that are kept on both sides of speech.
    """

    language: str = "auto"
    multilingual: bool = False
    translate: bool = False
    prompt: str = ""
    hotwords: str = ""
    context: bool = True
    beam_size: int | None = None
    temperature: float = 0.0
    no_speech_threshold: float = 0.6
    entropy_threshold: float = 2.4
    logprob_threshold: float = -1.0
    suppress_regex: str = ""
    suppress_non_speech: bool = False
    denoise: bool = True
    vad: bool = True
    vad_threshold: float = 0.5
    vad_padding: float = 0.26

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UsageError: a value is out of its range.
        """
        if self.beam_size is not None and not 1 <= self.beam_size <= MOST_BEAMS:
            raise UsageError(f"--beam-size is 1 to {MOST_BEAMS}, not {self.beam_size}")
        for name, low, high in (
            ("temperature", 0.0, 1.0),
            ("no_speech_threshold", 0.0, 1.0),
            ("vad_threshold", 0.01, 0.99),
            ("vad_padding", 0.0, 2.0),
            ("entropy_threshold", 0.0, 10.0),
            ("logprob_threshold", -100.0, 0.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # NaN is refused too
                raise UsageError(f"--{name.replace('_', '-')} is {low:g} to {high:g}, not {value:g}")
        try:
            re.compile(self.suppress_regex)
        except re.error as error:
            raise UsageError(f"--suppress-regex {self.suppress_regex!r}: {error}") from None
        if self.multilingual and self.language != "auto":
            raise UsageError(f"--multilingual detects languages: leave out --language {self.language}")

    def values(self) -> tuple[object, ...]:
        """All values in order, as part of what identifies a transcript."""
        return tuple(getattr(self, field.name) for field in fields(self))
