"""Constrained decoding: a JSON schema as token masks and forced tokens, by llguidance."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# json.dumps' default separators: what the models saw in training.
_FORMAT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Mask:
    """A set of tokens, a bit for each, as llguidance gives it.

    Args:
        bits: of all tokens, the first one lowest.
    """

    def __init__(self, bits: bytes) -> None:
        self._bits = bits

    def __contains__(self, token: int) -> bool:
        return bool(self._bits[token >> 3] >> (token & 7) & 1)

    def tokens(self, n_vocab: int) -> NDArray[np.int32]:
        """All of them, ascending."""
        bits = np.frombuffer(self._bits, np.uint8)
        used = bits.nonzero()[0]  # mostly few
        spread = np.unpackbits(bits[used], bitorder="little").reshape(-1, 8)
        rows, columns = spread.nonzero()
        tokens = (used[rows] * 8 + columns).astype(np.int32)
        return tokens[tokens < n_vocab]


class Constraint:
    """Walks one reply through a schema.

    Args:
        tokenizer: of the model.
        schema: JSON schema of the reply's body.
        wrap: literal text before and after the body.

    Raises:
        ValueError: the schema uses something llguidance does not support.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: Mapping[str, Any], wrap: tuple[str, str] = ("", "")) -> None:
        body = json.dumps({**schema, "x-guidance": _FORMAT})
        before, after = (f"{json.dumps(text)} " if text else "" for text in wrap)
        self._matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(f"start: {before}body {after}\nbody: %json {body}\n"))
        self._check()
        self._closers = [ids[0] for text in _CLOSERS if len(ids := tokenizer.tokenize_str(text)) == 1]

    @property
    def finished(self) -> bool:
        """The reply is complete; nothing may follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """Tokens that the schema leaves no choice about from here; already accepted when returned."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            self.accept(tokens)
        return tokens

    def accept(self, tokens: list[int]) -> None:
        """Move past tokens that were chosen under :meth:`mask`."""
        self._matcher.consume_tokens(tokens)
        self._check()

    def mask(self) -> Mask:
        """Which tokens may come next."""
        mask = Mask(self._matcher.compute_bitmask())
        self._check()
        return mask

    def closer(self, mask: Mask) -> int | None:
        """The allowed token that leads soonest to the end of the reply, or ``None`` if no known one is allowed."""
        return next((token for token in self._closers if token in mask), None)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(f"reply schema: {self._matcher.get_error()}")


# In order: end the string (while one is open, all the others are allowed as its text), then the array or object; else the shortest value.
_CLOSERS: Final = ('"', "]", "}", "null", "false", "0")
