"""whisper.cpp, one window at a time.

What a window is heard as depends on its samples and on the arguments of :meth:`Whisper.hear`, and on nothing else: parameters are made
anew for every call, no context is kept inside, and the random numbers of sampling start over. That is what makes a transcript
reproducible, and an interrupted one resumable.

It talks to pywhispercpp's binding of the C API rather than to its ``Model``, which keeps parameters between calls, drops the tokens, and
hands back a null context for a file that cannot be loaded.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.speech.ggml import check_whisper

Samples = NDArray[np.float32]

RATE = 16000
_SAMPLES_PER_POSITION = 320  # of the encoder: 1500 positions are 30 s
MOST_BEAMS = 8  # WHISPER_MAX_DECODERS

_SHORTEST = RATE  # whisper.cpp does nothing for less than 0.1 s and little good for less than 1 s
_SECONDS_PER_STAMP = 0.02
_log = logging.getLogger(__name__)
_complaints: list[str] = []


@dataclass(frozen=True, slots=True)
class Token:
    """A token as decoded.

    Attributes:
        text: UTF-8 bytes, possibly a part of a character only; empty for timestamps and other control tokens.
        logprob: natural logarithm of its probability.
        time: of a timestamp token, seconds from the start of the window.
        turn: the mark of a change of speaker.
    """

    text: bytes
    logprob: float
    time: float | None = None
    turn: bool = False


class Whisper:
    """A model. It is looked at at once, and loaded when it is first needed.

    Args:
        path: a model in whisper.cpp's format.
        threads: CPU threads; ``None`` for all cores this process may use, 8 at most.

    Raises:
        ModelError: the file is missing or broken; from the methods, that whisper.cpp cannot load it.

    Attributes:
        longest: samples that it hears at once, which is 30 seconds but for models made to hear less.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(path)
        self.threads = threads or min(8, available_cores())
        header = check_whisper(self.path)
        self.multilingual, self.longest = header.multilingual, header.audio_context * _SAMPLES_PER_POSITION
        self._binding = binding()
        self._context: Any = None

    def language(self, samples: Samples) -> tuple[str, float]:
        """The language that is spoken, as Whisper's code, and its probability."""
        if not self.multilingual:
            return "en", 1.0
        self._load()
        samples = self._padded(samples)
        probabilities = np.zeros(self._binding.whisper_lang_max_id() + 1, np.float32)
        self._binding.whisper_pcm_to_mel(self._context, samples, len(samples), self.threads)
        best = self._binding.whisper_lang_auto_detect(self._context, 0, self.threads, probabilities)
        if best < 0:
            raise ModelError(f"{self.path.name} cannot detect languages: name the language")
        return self._binding.whisper_lang_str(best), float(probabilities[best])

    def hear(
        self,
        samples: Samples,
        *,
        language: str,
        prompt: str = "",
        translate: bool = False,
        beam_size: int | None = None,
        temperature: float = 0.0,
        climb: bool = False,
    ) -> list[Token]:
        """Decode a window.

        Args:
            samples: 16 kHz mono, at most ``longest``.
            prompt: text that came before, or that sets spelling and style.
            beam_size: beams of a beam search; ``None`` decodes greedily.
            temperature: of sampling; 0 takes the likeliest token.
            climb: while whisper.cpp finds the result poor, try again at a temperature higher by 0.2.

        Returns:
            The tokens in order, timestamps among them; empty where the model finds no speech.

        Raises:
            ModelError: whisper.cpp failed.
        """
        if temperature > 0:
            self.close()  # only a fresh context samples from its seed
        self._load()
        binding = self._binding
        strategy = binding.whisper_sampling_strategy
        beams = beam_size or 1
        parameters = binding.whisper_full_default_params(
            strategy.WHISPER_SAMPLING_BEAM_SEARCH if beams > 1 else strategy.WHISPER_SAMPLING_GREEDY
        )
        if beams > 1:
            parameters.beam_search = {"beam_size": beams, "patience": -1.0}
        parameters.language = language
        parameters.translate = translate and self.multilingual
        parameters.initial_prompt = prompt
        parameters.n_threads = self.threads
        parameters.temperature = temperature
        parameters.temperature_inc = 0.2 if climb else 0.0
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
            self._binding.whisper_free(self._context)
            self._context = None

    def __del__(self) -> None:
        if getattr(self, "_context", None) is not None:
            self.close()

    def _load(self) -> None:
        if self._context is not None:
            return
        _complaints.clear()
        context = self._binding.whisper_init_from_file_with_params(str(self.path), self._binding.whisper_context_default_params())
        if _complaints:  # the binding wraps a null pointer as if it were a context
            raise ModelError(f"whisper.cpp cannot load {self.path}: {_complaints[0]}")
        self._context = context

    def _padded(self, samples: Samples) -> Samples:
        if len(samples) > self.longest:
            raise ValueError(f"a window is at most {self.longest} samples, not {len(samples)}")
        samples = np.ascontiguousarray(samples, np.float32)
        return samples if len(samples) >= _SHORTEST else np.pad(samples, (0, _SHORTEST - len(samples)))

    def _run(self, parameters: Any, samples: Samples) -> None:
        """``whisper_full`` in a thread of its own, so that Ctrl-C reaches this one and stops it between two operations of the graph."""
        stop = False
        self._binding.assign_abort_callback(parameters, lambda: stop)
        with ThreadPoolExecutor(1) as worker:
            work = worker.submit(self._binding.whisper_full, self._context, parameters, samples, len(samples))
            try:
                status = work.result()
            except BaseException:
                stop = True
                raise
        if status != 0:
            raise ModelError(f"whisper.cpp failed on this audio (status {status}): {_complaints[-1] if _complaints else 'no reason given'}")

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
                0.01 * binding.whisper_full_get_segment_t0(context, segment) - (found[0].tid - begin) * _SECONDS_PER_STAMP if found else 0.0
            )
            for token in found:
                if token.id >= begin:
                    tokens.append(Token(b"", token.plog, offset + (token.id - begin) * _SECONDS_PER_STAMP))
                elif token.id < end:
                    tokens.append(Token(binding.whisper_token_to_bytes(context, token.id), token.plog))
                else:
                    tokens.append(Token(b"", token.plog, turn=token.id == turn))
        return tokens


def languages() -> Sequence[str]:
    """The codes of the languages that Whisper knows."""
    pw = binding()
    return [pw.whisper_lang_str(n) for n in range(pw.whisper_lang_max_id() + 1)]


def available_cores() -> int:
    """CPU cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def binding() -> Any:
    """pywhispercpp's binding of the C API, with the log of whisper.cpp and ggml led into ``logging``."""
    import _pywhispercpp  # type: ignore[import-not-found,unused-ignore]

    _pywhispercpp.whisper_log_set(_take_log)
    # The binding keeps the callback in a static variable, which would be destroyed after the interpreter: an abort at exit.
    atexit.register(_pywhispercpp.whisper_log_set, None)
    return _pywhispercpp


def _take_log(level: int, text: str) -> None:
    line = text.strip()
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        _complaints.append(line)
        del _complaints[:-8]
    if line:
        _log.log(logging.INFO if level in (3, 4) else logging.DEBUG, "%s", line)
