"""The reply: tokens sampled under a schema or freely, as a stream of text."""

from __future__ import annotations

import codecs
import ctypes
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.model.base import Delta, Finish, Reply, Tally, Usage
from sage_cli.model.constrain import Constraint, Mask
from sage_cli.model.decoder import Decoder
from sage_cli.model.kvcache import CachedSequence
from sage_cli.model.libraries import llama
from sage_cli.model.vocabulary import Vocabulary

_SPARE: Final = 32  # cells that forced tokens may take after the last look at the room
WIND_DOWN: Final = 256  # tokens before the limit at which a constrained reply starts to close


class Generation:
    """Writes one reply after a prompt that was decoded into a sequence.

    Args:
        constraint: ``None`` for free text.
        max_tokens: most tokens to write; under a constraint, as many more as its end takes.
        room: cells that are left in the context.
        tally: of the reply's usage.
        overlapped: decoding continues in the background after its call (a GPU's does). Then a token is sent to be decoded before it is
            handed out, so that neither Python nor the consumer costs time.
        stop_loops: stop where the reply repeats itself: end the string that does, or else the reply.
    """

    def __init__(
        self,
        decoder: Decoder,
        sequence: CachedSequence,
        vocabulary: Vocabulary,
        constraint: Constraint | None,
        *,
        max_tokens: int,
        room: int,
        tally: Tally,
        overlapped: bool,
        stop_loops: bool,
    ) -> None:
        self._decoder, self._sequence, self._vocabulary, self._constraint = decoder, sequence, vocabulary, constraint
        self._max_tokens, self._tally, self._overlapped = max_tokens, tally, overlapped
        self._written = 0  # tokens, those included that are not handed out yet
        self._wind_down = max(max_tokens - WIND_DOWN, max_tokens // 2)
        self._most = min(2 * max_tokens + WIND_DOWN, room - _SPARE)
        self._loops = LoopDetector() if stop_loops else None
        self._looped = self._ended = False  # something was stopped because it repeated itself; the whole reply was
        self._stopped: int | None = None  # the string that has to end, as Constraint.string
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._text: list[str] = []

    def stream(self, temperature: float, seed: int) -> Generator[Delta | Reply, None, None]:
        """Sample until the schema, the model or the limit ends the reply."""
        started = time.perf_counter()  # the time a consumer takes over a delta counts too
        finish: Finish = "stop"
        meant: int | None = None  # pieces of the text before those that only close it
        constraint = self._constraint
        tokens: list[int] = []  # accepted, and neither decoded nor handed out yet
        forced_tokens = 0
        with closing(Sampler(temperature, seed)) as sampler:
            while True:
                if constraint:
                    forced = constraint.forced()
                    forced_tokens += len(forced)
                    tokens += forced
                self._written += len(tokens)
                limited = self._ended or self._written >= (self._wind_down if constraint else self._max_tokens)
                over = self._over(limited)
                if finish == "stop" and limited and not (constraint and constraint.finished):
                    finish = "loop" if self._ended else "length"
                    self._stopped = constraint.string if constraint else None
                if over or not self._overlapped:
                    yield from self._hand_out(tokens)
                if over:
                    break
                if tokens:
                    self._decoder.tokens(self._sequence, tokens, logits=True)
                if self._overlapped:
                    yield from self._hand_out(tokens)
                if limited and meant is None and not self._stopping:
                    meant = len(self._text)
                token = self._next(sampler, limited or self._stopping)
                if self._vocabulary.ends_reply(token):
                    break
                if constraint:
                    constraint.accept([token])
                tokens = [token]
                self._watch(token)
        if tail := self._utf8.decode(b"", final=True):
            self._text.append(tail)
            yield Delta(tail)
        spent = time.perf_counter() - started
        self._tally.add(Usage(output_tokens=self._written, output_forced=forced_tokens, decode_s=spent))
        finish = "loop" if finish == "stop" and self._looped else finish
        closers = "" if meant is None else "".join(self._text[meant:])
        yield Reply("".join(self._text), finish, self._tally.usage, closing=closers)

    @property
    def _stopping(self) -> bool:
        """Whether the string that has to end goes on."""
        return self._stopped is not None and self._constraint is not None and self._constraint.string == self._stopped

    def _watch(self, token: int) -> None:
        """Stop what repeats itself. A loop in a string ends the string: the model can go on after it. Any other ends the reply."""
        if self._loops is None or not self._loops.add(token):
            return
        self._looped = True
        string = self._constraint.string if self._constraint else None
        if self._constraint is None or string is None or self._stopping or self._constraint.count - string <= LoopDetector.LONGEST:
            self._ended = True
        else:
            self._stopped = string

    def _over(self, limited: bool) -> bool:
        """Whether the reply ends here. One that has no way out of its schema, such as a pattern that never matches, ends incomplete."""
        if self._constraint is None:
            return limited
        return self._constraint.finished or (limited and (self._constraint.complete or self._written >= self._most))

    def _next(self, sampler: Sampler, ending: bool) -> int:
        """The token to write next; ``ending`` takes the shortest way out of the string or the schema."""
        mask = self._constraint.mask() if self._constraint else None  # first: a GPU is still decoding meanwhile
        logits = self._decoder.logits()
        closer = self._constraint.closer(mask) if self._constraint and mask and ending else None
        return sampler.sample(logits, mask) if closer is None else closer

    def _hand_out(self, tokens: Sequence[int]) -> Iterator[Delta]:
        """The text that tokens add."""
        piece = self._utf8.decode(b"".join(map(self._vocabulary.piece, tokens)))
        if piece:
            self._text.append(piece)
            yield Delta(piece)


# ---- sampling ------------------------------------------------------------------------------------------------------


class Sampler:
    """Samples the tokens of one reply, greedily or by llama.cpp's samplers. Call :meth:`close` afterwards.

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
    """Detects a reply that only repeats itself, as small models do until the token limit. After a loop it starts afresh.

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
        lengths = (length for length in range(1, self.LONGEST + 1) if len(tokens) > length and tokens[-1 - length] == token)
        if looped := any(self._repeats(tokens, length) for length in lengths):
            self._last.clear()
        return looped

    def _repeats(self, tokens: list[int], length: int) -> bool:
        span = max(self.LEAST, length * self.TIMES)
        if len(tokens) < span:
            return False
        end = tokens[-span:]
        return end[length:] == end[:-length]
