"""One llama.cpp context: decodes tokens and embeddings into the sequences of its KV cache and returns logits."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sage_cli.errors import ModelError
from sage_cli.hardware.threads import Sharing
from sage_cli.model.kvcache import CachedSequence, KVCache
from sage_cli.model.libraries import llama
from sage_cli.model.native import Interruptible, c_array

_NO_ABORT: Final = llama.ggml_abort_callback()
_SMALL: Final = 16  # tokens: beside one busy process, two threads decode 16 of them as fast as one thread does, and 64 faster
_NO_ROOM: Final = 1  # of llama_decode: too few free cells; nothing was changed


class Rows(NamedTuple):
    """Input embeddings and where they stand.

    Attributes:
        embeddings: shape ``(n, n_embd_inp)``, contiguous.
        positions: M-RoPE positions, shape ``(4, n)``.
    """

    embeddings: NDArray[np.float32]
    positions: NDArray[np.int32]


Filled: TypeAlias = "list[_EmbeddingBatch]"  # embeddings that are ready to be decoded


class Decoder:
    """Decodes into the KV cache of a context, which it owns.

    Args:
        context: ``llama_context *``; freed by :meth:`close`.
        n_vocab: logits per token.
        capacity: maximum cells of one ``llama_decode``.
        interruptible: of the model.
        sharing: threads for small batches, whose operations are short; the others use the context's. ``None``: all use the context's.
        reuse, release: see :class:`KVCache`.
    """

    def __init__(
        self,
        context: Any,
        n_vocab: int,
        capacity: int,
        interruptible: Interruptible,
        sharing: Sharing | None,
        *,
        release: Callable[[], bool],
        reuse: bool,
    ) -> None:
        self.context: Any = context
        self.cache = KVCache(context, int(llama.llama_n_ctx(context)), release=release, reuse=reuse)
        self._n_vocab, self._capacity, self._interruptible = n_vocab, capacity, interruptible
        self._one = _TokenBatch(1)
        self._sharing = sharing
        self._logits_at, self._logits = 0, np.empty(0, np.float32)  # llama.cpp hardly ever moves them, and to make an array is slow
        # Of two lots, one is filled while the other is decoded.
        self._lots: cycle[Filled] = cycle(([], []))

    def close(self) -> None:
        """Free the context. Safe to call again."""
        if self.context:
            for _ in range(2):
                for batch in next(self._lots):
                    batch.close()
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
            batch = self._one if len(part) == 1 else _TokenBatch(len(part))
            batch.set(part, sequence.end, sequence.id, logits=logits and last == len(tokens))
            self._decode(sequence, len(part), partial(llama.llama_decode, self.context, batch.native))
            for token in part:
                sequence.push(token)

    def fill(self, sequence: CachedSequence, count: int, pieces: Iterable[Rows]) -> Filled:
        """Prepare embeddings for :meth:`embeddings`, maybe while another thread decodes those before them.

        A device computes while llama.cpp is called again and again, so time that passes between two calls is lost. There are two lots: the
        embeddings are valid until the next call but one.

        Args:
            count: of all embeddings.
            pieces: the embeddings, in order. Each is copied before the next one is asked for.
        """
        lot, rest, more = next(self._lots), None, iter(pieces)
        parts = _parts(count, self._capacity)
        lot += (_EmbeddingBatch(self.context) for _ in parts[len(lot) :])
        for batch, (first, last) in zip(lot, parts, strict=False):
            batch.clear()
            while missing := last - first - batch.count:
                embeddings, positions = rest or next(more)
                batch.add(sequence.id, embeddings[:missing], positions[:, :missing])
                rest = Rows(embeddings[missing:], positions[:, missing:]) if missing < len(embeddings) else None
        return lot[: len(parts)]

    def embeddings(self, sequence: CachedSequence, filled: Filled, *, logits: bool) -> None:
        """Decode what :meth:`fill` prepared for this sequence. The caller records the items that the embeddings represent.

        Args:
            logits: compute the logits of the last one.

        Raises:
            ModelError: no room is left, or llama.cpp failed.
        """
        if logits:
            filled[-1].output_last()
        for batch in filled:
            self._decode(sequence, batch.count, partial(batch.decode, self.context))

    def wait(self) -> None:
        """Wait until a device that computes in the background has computed everything that it was given (``llama_synchronize``)."""
        with self._interruptible.guard():
            llama.llama_synchronize(self.context)

    def logits(self) -> NDArray[np.float32]:
        """Logits of the last decoded token, shape ``(n_vocab,)``. Waits for the device. Valid until the next decode."""
        pointer = llama.llama_get_logits_ith(self.context, -1)
        address = ctypes.addressof(pointer.contents)
        if address != self._logits_at:
            self._logits_at, self._logits = address, np.ctypeslib.as_array(pointer, shape=(self._n_vocab,))
        return self._logits

    def _decode(self, sequence: CachedSequence, count: int, decode: Callable[[], int]) -> None:
        """One batch of ``count`` cells; evicts other sequences if necessary."""
        if self._sharing is not None:
            threads = self._sharing.threads() if count <= _SMALL else self._sharing.most
            llama.llama_set_n_threads(self.context, threads, threads)
        status = self._interruptibly(sequence, count, decode)
        while status == _NO_ROOM and self.cache.make_room(sequence):
            status = self._interruptibly(sequence, count, decode)
        if status == _NO_ROOM:
            raise ModelError(f"the context of {self.cache.size} tokens is full; use a larger --ctx-size or fewer --frames")
        if status != 0:
            raise ModelError(f"llama.cpp failed on {count} tokens (llama_decode: {status}); try --gpu-layers 0 or a smaller --ctx-size")

    def _interruptibly(self, sequence: CachedSequence, count: int, decode: Callable[[], int]) -> int:
        """Decode, stopping on Ctrl-C; when that or a failure cuts it off, the sequence loses what came after its last item."""
        status = -1
        try:
            if count == 1:  # is soon over, so an end waits for it; on a GPU a guard takes as long as all else between two tokens
                status = int(decode())
                self._interruptible.check()
            else:  # the abort callback runs Python at every graph node: a hundredth of a batch of four
                with self._interruptible.guard():  # also of these calls, which log: an exception in there would be lost
                    llama.llama_set_abort_callback(self.context, self._interruptible.abort_callback, None)
                    try:
                        status = int(decode())
                    finally:
                        llama.llama_set_abort_callback(self.context, _NO_ABORT, None)
        finally:
            if status not in (0, _NO_ROOM):
                self.cache.truncate(sequence, len(sequence.items))
        return status


class _TokenBatch:
    """A ``llama_batch`` of tokens of one sequence."""

    def __init__(self, count: int) -> None:
        self.token = np.zeros(count, np.int32)
        self.positions = np.zeros(count, np.int32)
        self.outputs = np.zeros(count, np.int8)
        self.sequence = llama.llama_seq_id(0)
        pointer = ctypes.pointer(self.sequence)
        self._sequences = (ctypes.POINTER(llama.llama_seq_id) * count)(*[pointer] * count)
        self._ones = np.ones(count, np.int32)
        self.native: Any = llama.llama_batch(
            n_tokens=count,
            token=c_array(self.token, llama.llama_token),
            embd=None,
            pos=c_array(self.positions, llama.llama_pos),
            n_seq_id=c_array(self._ones, ctypes.c_int32),
            seq_id=self._sequences,
            logits=c_array(self.outputs, ctypes.c_int8),
        )

    def set(self, tokens: Sequence[int], start: int, sequence: int, *, logits: bool) -> None:
        """Fill it with as many tokens as it has room for, at positions from ``start`` on."""
        for index, token in enumerate(tokens):  # numpy would take longer over one token than all else between two
            self.token[index], self.positions[index] = token, start + index
        self.sequence.value = sequence
        self.outputs[-1] = logits


class _EmbeddingBatch:
    """The ``llama_batch_ext`` that carries embeddings to a context, used again and again.

    Given a ``llama_batch``, ``llama_decode`` would make one of these, in memory that is new each time and grows row by row: on a GPU that
    takes longer than computing the batch before it.
    """

    def __init__(self, context: Any) -> None:
        self._native = llama.llama_batch_ext_init(context)
        self.count = 0

    def close(self) -> None:
        llama.llama_batch_ext_free(self._native)

    def clear(self) -> None:
        llama.llama_batch_ext_clear(self._native)
        self.count = 0

    def add(self, sequence: int, embeddings: NDArray[np.float32], positions: NDArray[np.int32]) -> None:
        """Copy embeddings of shape ``(n, n_embd_inp)`` with positions of shape ``(4, n)`` to the end."""
        count, width = embeddings.shape
        table = np.empty((count, 3), np.uintp)  # a llama_embd each: address, rows, values per row
        table[:, 0] = embeddings.ctypes.data + np.arange(count, dtype=np.uintp) * np.uintp(embeddings.strides[0])
        table[:, 1:] = 1, width
        rows = (llama.llama_embd * count).from_buffer(table)
        places = (llama.llama_pos * 4 * count).from_buffer(np.ascontiguousarray(positions.T))
        for row, place in zip(rows, places, strict=True):
            index = llama.llama_batch_ext_add_embd(self._native, sequence, row)
            if index < 0:
                raise ModelError(f"llama.cpp refused an embedding of {width} values (llama_batch_ext_add_embd: {index})")
            llama.llama_batch_ext_set_pos(self._native, index, place)
        self.count += count

    def output_last(self) -> None:
        """Ask for the logits of the last one."""
        llama.llama_batch_ext_set_output_logits(self._native, self.count - 1, True)

    def decode(self, context: Any) -> int:
        """``llama_decode``'s status."""
        return int(llama.llama_process(context, llama.LLAMA_PROCESS_TYPE_DECODE, self._native))


def _parts(count: int, capacity: int) -> list[tuple[int, int]]:
    """Bounds of equal parts of at most ``capacity``."""
    if count <= capacity:
        return [(0, count)] if count else []
    number = -(-count // capacity)
    bounds = [count * index // number for index in range(number + 1)]
    return list(pairwise(bounds))
