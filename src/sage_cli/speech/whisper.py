"""whisper.cpp, one window at a time.

At temperature 0, the result of :meth:`Whisper.decode` depends on its arguments alone: parameters are made anew for every call, and no
context is kept inside. That makes a transcript reproducible, and an interrupted one resumable.

It talks to pywhispercpp's binding of the C API rather than to its ``Model``, which keeps parameters between calls, drops the tokens, and
hands back a null context for a file that cannot be loaded.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_cli import nativelog
from sage_cli.errors import ModelError, UsageError, loading
from sage_cli.hardware.memory import check_address_space
from sage_cli.hardware.threads import Worker, compute_threads
from sage_cli.nativelog import LogLine, NativeLog
from sage_cli.signals import signals_held
from sage_cli.speech.ggml import WhisperHeader, check_whisper, read_vocabulary
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.tokenizer import Tokenizer

Samples = NDArray[np.float32]

RATE = 16000
_SAMPLES_PER_POSITION = 320  # of the encoder: 1500 positions are 30 s

_SHORTEST = RATE  # whisper.cpp does nothing for less than 0.1 s and little good for less than 1 s
SECONDS_PER_STAMP = 0.02
MOST_THREADS = 8  # more do not pay: a window's decoder works on one token at a time
_TINY_WIDTH = 384  # of Whisper tiny; anything narrower is a toy
_log = logging.getLogger(__name__)
_native = NativeLog(_log)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as decoded.

    Attributes:
        id: its number in the vocabulary.
        text: UTF-8 bytes, possibly a part of a character only; empty for timestamps and other control tokens.
        logprob: natural logarithm of its probability.
        time: of a timestamp token, seconds from the start of the window.
        spoken_until: when the audio that the decoder attended to for this token ends, in seconds from the start of the window
            (dynamic time warping of cross-attention); ``None`` where that is not known.
        turn: the mark of a change of speaker.
    """

    id: int
    text: bytes
    logprob: float
    time: float | None = None
    spoken_until: float | None = None
    turn: bool = False


class Whisper:
    """A model. Its file is checked at once, and loaded when it is first needed.

    Args:
        path: a model in whisper.cpp's format.
        threads: CPU threads; ``None`` for one per full core, 8 at most.

    Raises:
        ModelError: the file is missing or broken; from the methods, that whisper.cpp cannot load it.

    Attributes:
        longest: samples that it takes at once, which is 30 seconds but for models made for less.
        prompt_length: tokens that fit before a window.
        device: what it runs on, e.g. ``"CPU"``; ``None`` before it is loaded.
        toy: smaller than any released Whisper, as the bundled nano is: trained on synthetic sound.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(path)
        self.threads = threads or min(MOST_THREADS, compute_threads())
        header = check_whisper(self.path)
        self.multilingual, self.longest = header.multilingual, header.audio_context * _SAMPLES_PER_POSITION
        self.prompt_length = max(0, header.text_context // 2 - 1)
        self.toy = header.text_width < _TINY_WIDTH
        self._header = header
        self._binding = binding()
        self._context: Any = None
        self._worker = Worker("sage-whisper")  # of all decodes: two at once in a context crash
        self._stop = Event()  # of the decode under way
        # whisper.cpp draws the candidates of a beam search at random, too, and a context goes on with its random numbers.
        self._drawn = False
        self.device: str | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(read_vocabulary(self.path))

    @cached_property
    def first_stamp(self) -> int:
        """The id of the timestamp ``<|0.00|>``."""
        self._load()
        return int(self._binding.whisper_token_beg(self._context))

    def language(self, samples: Samples) -> tuple[str, float]:
        """The language that is spoken, as Whisper's code, and its probability."""
        probabilities = self.language_probabilities(samples)
        best = max(probabilities, key=probabilities.__getitem__)
        return best, probabilities[best]

    def language_probabilities(self, samples: Samples) -> dict[str, float]:
        """How likely each language is, by Whisper's code."""
        if not self.multilingual:
            return {"en": 1.0}
        self._load()
        samples = self._padded(samples)
        probabilities = np.zeros(self._binding.whisper_lang_max_id() + 1, np.float32)
        self._binding.whisper_pcm_to_mel(self._context, samples, len(samples), self.threads)
        best = self._binding.whisper_lang_auto_detect(self._context, 0, self.threads, probabilities)
        if best < 0:
            raise ModelError(f"{self.path.name} cannot detect languages: name the language")
        return {self._binding.whisper_lang_str(number): float(value) for number, value in enumerate(probabilities)}

    def decode(self, samples: Samples, options: SpeechOptions, prompt: Sequence[int] = (), *, again: bool = False) -> list[Token]:
        """Decode a window.

        Args:
            samples: 16 kHz mono, at most ``longest``.
            options: those of decoding count. ``language`` must be a code, for ``auto`` is English here; ``beam_size`` ``None`` is 1.
            prompt: ids of the tokens that come before the window; the last ``prompt_length`` count.
            again: search with other random numbers than the last time.

        Returns:
            The tokens in order, timestamps among them; empty where the model finds no speech.

        Raises:
            ModelError: whisper.cpp failed.
        """
        beams = options.beam_size or 1
        draws = beams > 1 or options.temperature > 0
        if draws and self._drawn and not again:  # what was heard before must not change a text
            self.close()
        self._load()
        self._drawn |= draws
        binding = self._binding
        strategy = binding.whisper_sampling_strategy
        parameters = binding.whisper_full_default_params(
            strategy.WHISPER_SAMPLING_BEAM_SEARCH if beams > 1 else strategy.WHISPER_SAMPLING_GREEDY
        )
        if beams > 1:
            parameters.beam_search = {"beam_size": beams, "patience": -1.0}
        parameters.language = "en" if options.language == "auto" else options.language
        parameters.translate = options.translate and self.multilingual
        if kept := list(prompt)[-self.prompt_length :] if self.prompt_length else []:
            parameters.prompt_tokens = kept
        parameters.n_threads = self.threads
        parameters.temperature = options.temperature
        parameters.temperature_inc = 0.0  # no fallback: see sage_cli.speech.decoding
        parameters.no_speech_thold = options.no_speech_threshold
        parameters.entropy_thold = options.entropy_threshold
        parameters.logprob_thold = options.logprob_threshold
        if options.suppress_regex:
            parameters.suppress_regex = options.suppress_regex
        parameters.suppress_nst = options.suppress_non_speech
        parameters.no_context = True
        parameters.print_progress = False
        parameters.tdrz_enable = "tdrz" in self.path.name
        # One segment: the timestamps stay among the tokens, and a pause at the end of the window is not encoded a second time.
        parameters.single_segment = True
        self._run(parameters, self._padded(samples))
        return self._tokens()

    def close(self) -> None:
        """Free the model's memory. It is loaded again when it is needed again."""
        if self._context is not None:
            self._worker.wait()
            self._free()

    def _free(self) -> None:
        with signals_held():  # none may come between freeing it and noting that
            self._binding.whisper_free(self._context)
            self._context = None

    def interrupt(self) -> None:
        """From any thread: end the decode under way; who waits for it gets a KeyboardInterrupt."""
        self._stop.set()

    def __del__(self) -> None:
        # No decode is under way: it would keep this object. Nor is one waited for: its thread may have ended as garbage, or be this one.
        if getattr(self, "_context", None) is not None:
            self._free()

    def _load(self) -> None:
        self._worker.wait()  # Ctrl-C can come at any moment, and once more while the first one is obeyed
        if self._context is not None:
            return
        parameters = self._binding.whisper_context_default_params()
        presets = self._binding.whisper_alignment_heads_preset
        attention = 0  # bytes of what times come from
        if not self.toy:
            preset, layers = _alignment_heads(self._header, self.path.name)
            parameters.flash_attn = False  # it does not keep the attention that times come from
            parameters.dtw_token_timestamps = True
            parameters.dtw_aheads_preset = getattr(presets, f"WHISPER_AHEADS_{preset}")
            parameters.dtw_n_top = layers
            # Four copies of the attention of a full window, whatever the heads; untouched pages cost nothing.
            heads = max(24, layers * self._header.text_heads)
            attention = (self._header.text_context * self._header.audio_context * heads * 4 * 4) + (64 << 20)
            parameters.dtw_mem_size = attention
        check_address_space(self.path, self.path.stat().st_size * 3 // 2 + attention)  # buffers grow with the model
        with _utf8_name(self.path) as name, signals_held(), _native.lines() as lines:  # a signal after the call would lose the model
            context = self._binding.whisper_init_from_file_with_params(name, parameters)
            complaints = _complaints(lines)
            # The binding wraps a null pointer as if it were a context. Other complaints are of a GPU that is not there: a processor serves.
            if any(line.startswith("whisper_init") for line in complaints):
                raise ModelError(f"whisper.cpp cannot load {self.path}: {complaints[0]}")
            self._context, self._drawn = context, False
        self.device = next((found[1] for line in reversed(lines) if (found := re.search(r"found GPU device \d+: (\S+)", line.text))), "CPU")

    def _padded(self, samples: Samples) -> Samples:
        if len(samples) > self.longest:
            raise ValueError(f"a window is at most {self.longest} samples, not {len(samples)}")
        samples = np.ascontiguousarray(samples, np.float32)
        return samples if len(samples) >= _SHORTEST else np.pad(samples, (0, _SHORTEST - len(samples)))

    def _run(self, parameters: Any, samples: Samples) -> None:
        """``whisper_full`` in a thread of its own, so that Ctrl-C reaches this one and stops it between two operations of the graph."""
        stop = self._stop = Event()
        self._binding.assign_abort_callback(parameters, stop.is_set)
        try:
            status, complaints = self._worker.submit(self._full, parameters, samples).result()
        except RuntimeError as error:  # C++'s regular expressions are not quite Python's
            raise ModelError(f"whisper.cpp failed on this audio: {error}") from error
        except BaseException:
            stop.set()
            self._worker.wait()
            raise
        if stop.is_set():
            raise KeyboardInterrupt
        if status != 0:
            raise ModelError(f"whisper.cpp failed on this audio (status {status}): {complaints[-1] if complaints else 'no reason given'}")

    def _full(self, parameters: Any, samples: Samples) -> tuple[int, list[str]]:
        """Its status, and its complaints."""
        with _native.lines() as lines:
            status = self._binding.whisper_full(self._context, parameters, samples, len(samples))
        return status, _complaints(lines)

    def _tokens(self) -> list[Token]:
        binding, context = self._binding, self._context
        end, begin, turn = (f(context) for f in (binding.whisper_token_eot, binding.whisper_token_beg, binding.whisper_token_solm))
        tokens: list[Token] = []
        for segment in range(binding.whisper_full_n_segments(context)):
            found = [
                binding.whisper_full_get_token_data(context, segment, index)
                for index in range(binding.whisper_full_n_tokens(context, segment))
            ]
            # Where a decode ran into the token limit, whisper.cpp went on from the last timestamp: this is where it went on from.
            offset = (
                0.01 * binding.whisper_full_get_segment_t0(context, segment) - (found[0].tid - begin) * SECONDS_PER_STAMP if found else 0.0
            )
            for token in found:
                if token.id >= begin:
                    tokens.append(Token(token.id, b"", token.plog, time=offset + (token.id - begin) * SECONDS_PER_STAMP))
                elif token.id < end:
                    until = 0.01 * token.t_dtw if token.t_dtw >= 0 else None
                    tokens.append(Token(token.id, binding.whisper_token_to_bytes(context, token.id), token.plog, spoken_until=until))
                else:
                    tokens.append(Token(token.id, b"", token.plog, turn=token.id == turn))
        return tokens


@contextmanager
def _utf8_name(path: Path) -> Iterator[str]:
    """A name for the file that is UTF-8, for the binding takes and logs no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def _alignment_heads(header: WhisperHeader, name: str) -> tuple[str, int]:
    """whisper.cpp's preset of the attention heads that follow the audio; for other models, the heads of the upper half of the layers.

    Returns:
        The preset's name, and how many layers from the top are used where it is ``N_TOP_MOST``.
    """
    sizes = {(4, 4, 384): "TINY", (6, 6, 512): "BASE", (12, 12, 768): "SMALL", (24, 24, 1024): "MEDIUM", (32, 32, 1280): "LARGE"}
    size = sizes.get((header.audio_layers, header.text_layers, header.text_width))
    if size == "LARGE":
        return ("LARGE_V3" if header.mels == 128 else "LARGE_V1" if "v1" in name else "LARGE_V2"), 0
    if size is not None:
        return size if header.multilingual else f"{size}_EN", 0
    if (header.audio_layers, header.text_layers, header.text_width) == (32, 4, 1280):
        return "LARGE_V3_TURBO", 0
    return "N_TOP_MOST", max(1, header.text_layers // 2)


def languages() -> Sequence[str]:
    """The codes of the languages that Whisper knows."""
    pw = binding()
    return [pw.whisper_lang_str(n) for n in range(pw.whisper_lang_max_id() + 1)]


def check_language(code: str) -> None:
    """Check a language that somebody chose.

    Raises:
        UsageError: it is neither ``auto`` nor a code that Whisper knows.
    """
    if code != "auto" and code not in languages():
        raise UsageError(f"no language {code!r}: give one of Whisper's codes (en, de, zh ...) or auto")


@cache
def binding() -> Any:
    """pywhispercpp's binding of the C API, with the log of whisper.cpp and ggml led into ``logging``.

    Raises:
        LibraryError: it cannot be loaded.
    """
    with loading("pywhispercpp"):
        import _pywhispercpp  # type: ignore[import-not-found,unused-ignore]

    _pywhispercpp.whisper_log_set(_native.take)
    # The binding keeps the callback in a static variable, which would be destroyed after the interpreter: an abort at exit.
    atexit.register(_pywhispercpp.whisper_log_set, None)
    return _pywhispercpp


def _complaints(lines: Sequence[LogLine]) -> list[str]:
    return [line.text.strip() for line in lines if line.level == nativelog.ERROR]
