"""One llama.cpp context: decodes tokens and embeddings into the sequences of its KV cache and returns logits."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from llama_cpp import llama_cpp as llama
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.model.kvcache import CachedSequence, KVCache
from sage_cli.model.native import Interruptible, c_array

_NO_ABORT: Final = llama.ggml_abort_callback()
_NO_ROOM: Final = 1  # of llama_decode: too few free cells; nothing was changed
_LONG: Final = 32  # tokens from which on Ctrl-C should not have to wait for the end of a decode


class Decoder:
    """Decodes into the KV cache of a context, which it owns.

    Args:
        context: ``llama_context *``; freed by :meth:`close`.
        n_vocab: logits per token.
        capacity: maximum cells of one ``llama_decode``.
        interruptible: of the model.
        reuse, release: see :class:`KVCache`.
    """

    def __init__(
        self,
        context: Any,
        n_vocab: int,
        capacity: int,
        interruptible: Interruptible,
        *,
        release: Callable[[], bool],
        reuse: bool,
    ) -> None:
        self.context: Any = context
        self.cache = KVCache(context, int(llama.llama_n_ctx(context)), release=release, reuse=reuse)
        self._n_vocab, self._capacity, self._interruptible = n_vocab, capacity, interruptible
        self._one = _Batch(1)

    def close(self) -> None:
        """Free the context. Safe to call again."""
        if self.context:
            llama.llama_free(self.context)
            self.context = None

    def tokens(self, sequence: CachedSequence, tokens: Sequence[int], *, logits: bool) -> None:
        """Decode text tokens at the sequence's end and record them there.

        Args:
            logits: compute the logits of the last token.

        Raises:
            ModelError: no room is left, or llama.cpp failed.
        """
        for first, last in _parts(len(tokens), self._capacity):
            part = tokens[first:last]
            batch = self._one if len(part) == 1 else _Batch(len(part))
            batch.token[:] = part
            batch.positions[: len(part)] = np.arange(sequence.end, sequence.end + len(part))
            self._decode(sequence, batch, embeddings=None, logits=logits and last == len(tokens))
            for token in part:
                sequence.push(token)

    def embeddings(self, sequence: CachedSequence, embeddings: NDArray[np.float32], positions: NDArray[np.int32], *, logits: bool) -> None:
        """Decode embeddings at given positions. The caller records the items they represent.

        Args:
            embeddings: shape ``(n, n_embd_inp)``.
            positions: M-RoPE positions, shape ``(4, n)``.
            logits: compute the logits of the last one.

        Raises:
            ModelError: no room is left, or llama.cpp failed.
        """
        for first, last in _parts(len(embeddings), self._capacity):
            batch = _Batch(last - first)
            batch.positions[:] = positions[:, first:last].reshape(-1)
            self._decode(sequence, batch, embeddings=embeddings[first:last], logits=logits and last == len(embeddings))

    def logits(self) -> NDArray[np.float32]:
        """Logits of the last decoded token, shape ``(n_vocab,)``. Waits for the device. Valid until the next decode."""
        pointer = llama.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._n_vocab,))

    def _decode(self, sequence: CachedSequence, batch: _Batch, *, embeddings: NDArray[np.float32] | None, logits: bool) -> None:
        """One ``llama_decode``; evicts other sequences if necessary."""
        batch.sequence.value = sequence.id
        batch.outputs[-1] = logits
        native = batch.native(embeddings)
        status = self._llama_decode(native, sequence)
        while status == _NO_ROOM and self.cache.make_room(sequence):
            status = self._llama_decode(native, sequence)
        if status == _NO_ROOM:
            raise ModelError(f"the context of {self.cache.size} tokens is full; use a larger --ctx-size or fewer --frames")
        if status != 0:
            raise ModelError(
                f"llama.cpp failed on {native.n_tokens} tokens (llama_decode: {status}); try --gpu-layers 0 or a smaller --ctx-size"
            )

    def _llama_decode(self, batch: Any, sequence: CachedSequence) -> int:
        """``llama_decode``, stopping on Ctrl-C; when that or a failure cuts it off, the sequence loses what came after its last item."""
        # The abort callback runs Python at every graph node: worth it in long batches, not for single tokens.
        slow = batch.n_tokens > _LONG
        if slow:
            llama.llama_set_abort_callback(self.context, self._interruptible.abort_callback, None)
        status = -1
        try:
            with self._interruptible.guard():
                status = llama.llama_decode(self.context, batch)
        finally:
            if slow:
                llama.llama_set_abort_callback(self.context, _NO_ABORT, None)
            if status not in (0, _NO_ROOM):
                self.cache.truncate(sequence, len(sequence.items))
        return int(status)


class _Batch:
    """The arrays of a ``llama_batch`` of one sequence."""

    def __init__(self, count: int) -> None:
        self.token = np.zeros(count, np.int32)
        self.positions = np.zeros(4 * count, np.int32)  # of tokens, only the first ``count``
        self.outputs = np.zeros(count, np.int8)
        self.sequence = llama.llama_seq_id(0)
        pointer = ctypes.pointer(self.sequence)
        self._sequences = (ctypes.POINTER(llama.llama_seq_id) * count)(*[pointer] * count)
        self._ones = np.ones(count, np.int32)
        self._native: Any = llama.llama_batch(
            n_tokens=count,
            token=c_array(self.token, llama.llama_token),
            embd=None,
            pos=c_array(self.positions, llama.llama_pos),
            n_seq_id=c_array(self._ones, ctypes.c_int32),
            seq_id=self._sequences,
            logits=c_array(self.outputs, ctypes.c_int8),
        )

    def native(self, embeddings: NDArray[np.float32] | None) -> Any:
        """The C structure; valid while this object and the embeddings exist."""
        if embeddings is not None:
            self._native.token = None
            self._native.embd = c_array(embeddings, ctypes.c_float)
        return self._native


def _parts(count: int, capacity: int) -> list[tuple[int, int]]:
    """Bounds of equal parts of at most ``capacity``."""
    number = -(-count // capacity)
    bounds = [count * index // number for index in range(number + 1)] if number else [0]
    return list(pairwise(bounds))
