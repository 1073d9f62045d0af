"""Sampling: greedy or by llama.cpp's samplers, from the tokens that a schema allows."""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.model.constrain import Mask
from sage_cli.model.libraries import llama


class Sampler:
    """Samples the tokens of one reply. Call :meth:`close` afterwards.

    Args:
        temperature: 0 is greedy.
        seed: the same seed and logits give the same tokens.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self._chain: Any = None
        if temperature > 0:
            self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
            llama.llama_sampler_chain_add(self._chain, llama.llama_sampler_init_temp(temperature))
            llama.llama_sampler_chain_add(self._chain, llama.llama_sampler_init_dist(seed))

    def close(self) -> None:
        if self._chain:
            llama.llama_sampler_free(self._chain)
            self._chain = None

    def sample(self, logits: NDArray[np.float32], mask: Mask | None) -> int:
        """The next token.

        Args:
            logits: shape ``(n_vocab,)``.
            mask: allowed tokens; ``None`` for all.
        """
        if self._chain is None:
            likeliest = int(logits.argmax())
            if mask is None or likeliest in mask:
                return likeliest
            allowed = mask.tokens(len(logits))
            return int(allowed[logits[allowed].argmax()])
        allowed = np.arange(len(logits), dtype=np.int32) if mask is None else mask.tokens(len(logits))
        return self._draw(allowed, logits[allowed])

    def _draw(self, tokens: NDArray[np.int32], logits: NDArray[np.float32]) -> int:
        """Sample from these candidates with the sampler chain."""
        candidates = np.zeros(len(tokens), _CANDIDATE)
        candidates["id"], candidates["logit"] = tokens, logits
        data = candidates.ctypes.data_as(llama.llama_token_data_p)
        array = llama.llama_token_data_array(data, len(tokens), -1, False)
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)


_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


class LoopDetector:
    """Detects a reply that only repeats itself, as small models do until the token limit.

    A loop is a sequence of at most :attr:`LONGEST` tokens, repeated :attr:`TIMES` times in a row, at least :attr:`LEAST` tokens in all.
    Tables and lists repeat less than that verbatim.
    """

    LONGEST: Final = 32
    TIMES: Final = 4
    LEAST: Final = 64

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=max(self.LEAST, self.LONGEST * self.TIMES))

    def add(self, token: int) -> bool:
        """Add a sampled token; returns whether the reply loops."""
        self._last.append(token)
        tokens = list(self._last)
        return any(
            self._repeats(tokens, length) for length in range(1, self.LONGEST + 1) if len(tokens) > length and tokens[-1 - length] == token
        )

    def _repeats(self, tokens: list[int], length: int) -> bool:
        span = max(self.LEAST, length * self.TIMES)
        if len(tokens) < span:
            return False
        end = tokens[-span:]
        return end[length:] == end[:-length]
