"""Prefill: encodes frames and decodes them batch by batch together with the text between them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sage_cli.model.base import Progress, Usage
from sage_cli.model.batches import Batch, BatchSizes, batches, cells_of
from sage_cli.model.decoder import Decoder, Filled, Rows
from sage_cli.model.kvcache import CachedSequence, Prefetched
from sage_cli.model.native import Interruptible
from sage_cli.model.qwen import Item, VisionBlock, item_positions
from sage_cli.model.tokens import TokenEmbeddings, fill
from sage_cli.model.vision import VisionEncoder


class _Ready(NamedTuple):
    """A batch whose frames are encoded; with frames, its embeddings are on their way to llama.cpp."""

    batch: Batch
    filled: Filled | None


class Prefill:
    """Decodes prompts into sequences.

    Args:
        vision: encodes the frames.
        text: embeddings of the text.
        width: values per input embedding: for Qwen3-VL the text embedding plus the deepstack features.
        sizes: of the batches.
        interruptible: of the model.
    """

    def __init__(
        self, decoder: Decoder, vision: VisionEncoder, text: TokenEmbeddings, width: int, sizes: BatchSizes, interruptible: Interruptible
    ) -> None:
        self._decoder, self._vision, self._text, self._width = decoder, vision, text, width
        self._sizes, self._interruptible = sizes, interruptible
        self._scratch = np.empty((0, width), np.float32)  # of one slice; memory that is new each time would be slow to touch

    def begin(self, sequence: CachedSequence, items: Sequence[Item], usage: Usage) -> None:
        """Encode the frames of a beginning, and decode the batches of it that the whole prompt will have, too.

        Args:
            items: up to the closing token of a frame.

        Raises:
            ModelError: as :meth:`run`.
        """
        settled = True
        for batch in batches(items, len(sequence.items), self._sizes):
            for piece in batch.slices:
                with timing(usage, "encode_s"), self._interruptible.guard():
                    self._vision.prefetch(piece.slice, piece.cells)
            # The last one ends where it does because the beginning ends there, and a block of several slices may grow.
            settled = settled and batch.items < len(items) and all(len(piece.block.slices) == 1 for piece in batch.slices)
            if not settled:
                continue
            embedded = [self._vision.embed(piece.slice, piece.cells) for piece in batch.slices]
            with timing(usage, "prefill_s"):
                rows = self._rows(batch, [embedding for embedding, _ in embedded], sequence.end)
                self._decode(sequence, items, _Ready(batch, self._decoder.fill(sequence, batch.cells, rows) if embedded else None))
            sequence.prefetched.append(Prefetched(batch.items, batch.cells, sum(fresh for _, fresh in embedded)))

    def run(self, sequence: CachedSequence, items: Sequence[Item], usage: Usage) -> Iterator[Progress]:
        """Decode the items that the sequence does not hold yet, yielding progress. Afterwards the last item's logits are available.

        Raises:
            ModelError: a frame cannot be encoded, no room is left, or llama.cpp failed.
        """
        begun = len(sequence.items)
        todo = items[begun:]
        total, done = cells_of(todo), 0
        slices = _slices(todo)
        usage.images = _slices(items)
        usage.images_reused = usage.images - slices - sum(batch.encoded for batch in sequence.prefetched)
        usage.prompt_reused = sequence.cells - sum(batch.cells for batch in sequence.prefetched)
        sequence.prefetched.clear()
        encoded, position = 0, sequence.end
        waiting: _Ready | None = None
        for batch in chain(batches(items, begun, self._sizes), (None,)):
            ready: _Ready | None = None
            if batch is not None:
                embeddings: list[NDArray[np.floating]] = []
                for piece in batch.slices:
                    with timing(usage, "encode_s"), self._interruptible.guard():
                        embedding, fresh = self._vision.embed(piece.slice, piece.cells)
                    embeddings.append(embedding)
                    encoded += 1
                    usage.images_reused += not fresh
                    yield Progress("encode", encoded, slices)
                ready = _Ready(
                    batch, self._decoder.fill(sequence, batch.cells, self._rows(batch, embeddings, position)) if embeddings else None
                )
                position += sum(map(item_positions, items[begun : batch.items]))
                begun = batch.items
            if waiting is not None:
                with timing(usage, "prefill_s"):
                    self._decode(sequence, items, waiting)
                    if batch is None:  # a GPU's prefill ends after the last call; without this, decoding would count it
                        self._decoder.wait()
                done += waiting.batch.cells
                yield Progress("prefill", done, total)
            waiting = ready

    def _decode(self, sequence: CachedSequence, items: Sequence[Item], ready: _Ready) -> None:
        batch, logits = ready.batch, ready.batch.items == len(items)
        if ready.filled is None:
            self._decoder.tokens(sequence, [piece for piece in batch.pieces if isinstance(piece, int)], logits=logits)
        else:
            finished = items[len(sequence.items) : batch.items]
            self._decoder.embeddings(sequence, ready.filled, logits=logits)
            for item in finished:
                sequence.push(item)
        if batch.boundary:
            sequence.boundaries.append(batch.boundary)

    def _rows(self, batch: Batch, slices: Sequence[NDArray[np.floating]], position: int) -> Iterator[Rows]:
        """The embeddings of a batch with frames, piece by piece, from a position on. Each is valid until the next.

        A block that began in an earlier batch is not among the sequence's items yet: its position is the sequence's end.
        """
        waiting = iter(slices)
        for piece in batch.pieces:
            cells = 1 if isinstance(piece, int) else piece.cells
            if len(self._scratch) < cells:
                self._scratch = np.empty((cells, self._width), np.float32)
            embeddings = self._scratch[:cells]
            if isinstance(piece, int):
                embeddings[0] = 0.0  # text has no deepstack features
                self._text.row(piece, embeddings[0])
                yield Rows(embeddings, np.array([[position]] * 3 + [[0]], np.int32))
                position += 1
            else:
                fill(embeddings, next(waiting))
                yield Rows(embeddings, piece.block.slice_positions(piece.index, position))
                if piece.index == len(piece.block.slices) - 1:
                    position += item_positions(piece.block)


def _slices(items: Sequence[Item]) -> int:
    return sum(len(item.slices) for item in items if isinstance(item, VisionBlock))


@contextmanager
def timing(usage: Usage, counter: Literal["encode_s", "prefill_s"]) -> Iterator[None]:
    """Add the wall time of the block to one of the counters."""
    started = time.perf_counter()
    try:
        yield
    finally:
        setattr(usage, counter, getattr(usage, counter) + time.perf_counter() - started)
