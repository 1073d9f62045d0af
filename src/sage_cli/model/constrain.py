"""Constrained decoding: a JSON schema as token masks and forced tokens, by llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError, loading
from sage_cli.model.schemas import satisfiable, subschemas

with loading("llguidance"):
    from llguidance import LLMatcher, LLTokenizer

# json.dumps' default separators: what the models saw in training.
_FORMAT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Mask:
    """A set of tokens as a bit mask, as llguidance returns it.

    Args:
        bits: of all tokens, the first one lowest.
    """

    def __init__(self, bits: bytes) -> None:
        self._bits = bits

    def __contains__(self, token: int) -> bool:
        return bool(self._bits[token >> 3] >> (token & 7) & 1)

    def tokens(self, n_vocab: int) -> NDArray[np.int32]:
        """The token ids in ascending order."""
        bits = np.frombuffer(self._bits, np.uint8)
        used = bits.nonzero()[0]  # mostly few
        spread = np.unpackbits(bits[used], bitorder="little").reshape(-1, 8)
        rows, columns = spread.nonzero()
        tokens = (used[rows] * 8 + columns).astype(np.int32)
        return tokens[tokens < n_vocab]


class Constraint:
    """Constrains one reply to a schema.

    Args:
        tokenizer: of the model.
        schema: JSON schema of the reply's body.
        wrap: literal text before and after the body.

    Raises:
        ValueError: the schema uses something llguidance does not support. Methods raise ModelError where nothing satisfies the schema.
    """

    def __init__(self, tokenizer: LLTokenizer, schema: Mapping[str, Any], wrap: tuple[str, str] = ("", "")) -> None:
        body = _formatted(schema)
        before, after = (f"{json.dumps(text)} " if text else "" for text in wrap)
        self._matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(f"start: {before}body {after}\nbody: %json {body}\n"), log_level=0)
        if self._matcher.is_error():
            raise ValueError(f"reply schema: {self._matcher.get_error()}")
        self._tokenizer = tokenizer
        self._count = 0
        self._string: int | None = None
        self._escapes = b""
        self._closers = [ids[0] if len(ids := tokenizer.tokenize_str(text)) == 1 else None for text in _CLOSERS]

    @property
    def finished(self) -> bool:
        """Whether the reply is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """Tokens that the schema leaves no choice about from here; already accepted when returned."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        if tokens:
            self.accept(tokens)
        return tokens

    def accept(self, tokens: list[int]) -> None:
        """Accept tokens that were chosen under :meth:`mask`."""
        self._matcher.consume_tokens(tokens)
        for token in tokens:
            bare = _ESCAPED.sub(b"", self._escapes + self._tokenizer.decode_bytes([token]))
            self._escapes = b"\\" if bare.endswith(b"\\") else b""  # of the next token's first character
            if quotes := bare.count(b'"'):
                inside = (self._string is not None) == (quotes % 2 == 0)
                self._string = self._count if inside else None
            self._count += 1
        self._check()

    def mask(self) -> Mask:
        """Which tokens may come next."""
        mask = Mask(self._matcher.compute_bitmask())
        self._check()
        return mask

    @property
    def complete(self) -> bool:
        """Whether the reply may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def string(self) -> int | None:
        """The number of the token that began the string which is being written; ``None`` outside strings."""
        return self._string

    @property
    def count(self) -> int:
        """Tokens accepted so far."""
        return self._count

    def closer(self, mask: Mask) -> int | None:
        """The allowed token that leads soonest to the end of the reply, or ``None`` if no known one is allowed."""
        closers = self._closers[1:] if self._string is None else self._closers[:1]  # inside a string, brackets and digits are text
        return next((token for token in closers if token is not None and token in mask), None)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ModelError(f"no reply can be held to the schema: {self._matcher.get_error().partition(chr(10))[0][:300]}")


_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)

# The end of a string; outside strings in this order: the end of an array or object, the end of a number that another item has to follow,
# the shortest value, and digits last, for a number could go on forever.
_CLOSERS: Final = ('"', "]", "}", ",", '"', "null", "false", "true", "1", "0")


def check_schema(schema: Mapping[str, Any]) -> None:
    """Find out without a model whether replies can be held to a schema.

    Raises:
        ValueError: the schema uses something llguidance does not support, or nothing satisfies it.
    """
    numbers = ((key, value) for part in subschemas(schema) for key in _NUMBERS if key in part for value in _leaves(part[key]))
    if (number := next((value for key, value in numbers if _out_of_range(key, value)), None)) is not None:
        raise ValueError(f"{number} is out of range: whole numbers may be from {_LEAST} to {_MOST}")
    failed, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_json_schema(_formatted(schema)))
    if failed:
        raise ValueError(" ".join(" ".join(messages).split()))
    if not satisfiable(schema):
        raise ValueError("nothing satisfies it: it requires itself, without end")


# llguidance rounds or refuses larger ones. Over a range of integers that begins next to -2 ** 63 it ends the process.
_LEAST: Final = -9 * 10**18
_MOST: Final = (1 << 64) - 1
_FLOORS: Final = ("minimum", "exclusiveMinimum")
_NUMBERS: Final = ("const", "enum", "multipleOf", *_FLOORS)


def _out_of_range(key: str, value: Any) -> bool:
    return (type(value) is int and not _LEAST <= value <= _MOST) or (type(value) is float and key in _FLOORS and value < _LEAST)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


def _formatted(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _FORMAT})
