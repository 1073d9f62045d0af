"""Prefill: encodes frames and decodes them batch by batch together with the text between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from sage_cli.errors import ModelError
from sage_cli.hardware.memory import reuse_memory
from sage_cli.hardware.threads import Worker
from sage_cli.model.base import Progress, Tally, Usage
from sage_cli.model.batches import Batch, BatchSizes, batches, cells_of
from sage_cli.model.decoder import Decoder, Filled, Rows
from sage_cli.model.kvcache import CachedSequence, Prefetched
from sage_cli.model.native import Interruptible
from sage_cli.model.qwen import Item, VisionBlock, item_positions
from sage_cli.model.tokens import TokenEmbeddings, copy_floats
from sage_cli.model.vision import Embedded, VisionEncoder

T = TypeVar("T")


@dataclass
class _Course:
    """How far a prompt has been sent to llama.cpp, which may still be at work on the last of it.

    Attributes:
        items: number of items sent.
        position: of the next item.
        failed: a batch could not be decoded, so those after it must not be.
    """

    sequence: CachedSequence
    prompt: Sequence[Item]
    items: int
    position: int
    failed: bool = False

    def goes_on_as(self, prompt: Sequence[Item]) -> bool:
        """Whether another prompt begins with what was sent of this one."""
        return not self.failed and prompt[: self.items] == self.prompt[: self.items]


class Prefill:
    """Decodes prompts into sequences.

    Args:
        vision: encodes the frames.
        text: embeddings of the text.
        width: values per input embedding: for Qwen3-VL the text embedding plus the deepstack features.
        sizes: of the batches.
        interruptible: of the model.
        overlapped: fill and decode a batch in threads of their own, while frames of the next one are encoded. On a GPU all three are mostly
            work of the processor: copying, building graphs, launching kernels.
    """

    def __init__(
        self,
        decoder: Decoder,
        vision: VisionEncoder,
        text: TokenEmbeddings,
        width: int,
        sizes: BatchSizes,
        interruptible: Interruptible,
        *,
        overlapped: bool,
    ) -> None:
        self._decoder, self._vision, self._text, self._width = decoder, vision, text, width
        self._sizes, self._interruptible = sizes, interruptible
        self._scratch = np.empty((0, width), np.float32)  # of one slice; memory that is new each time would be slow to touch
        self._threads = [Worker("sage-fill"), Worker("sage-decode")] if overlapped else []
        if overlapped:
            reuse_memory()
        self._sent: deque[tuple[Future[None], int]] = deque()  # batches on their way, and their cells
        self._ahead: _Course | None = None  # of the prompt that :meth:`begin` works on

    def close(self) -> None:
        """Wait for what was sent, as is needed before the context is freed. Safe to call again."""
        self.settle()
        for thread in self._threads:
            thread.close()

    @property
    def _most(self) -> int:
        """Most batches on their way: of two lots of embeddings, one is filled while the other is decoded."""
        return 1 if self._threads else 0

    @property
    def under_way(self) -> bool:
        """Whether batches that :meth:`begin` sent may still be decoded."""
        return bool(self._sent)

    def begin(self, items: Sequence[Item], tally: Tally) -> None:
        """Encode the frames of a beginning, and decode the batches of it that the whole prompt will have, too.

        Decoding may go on after the call; :meth:`settle` ends it. A batch that fails is not told: whoever needs the prompt decodes what is
        missing, and meets it again.

        Args:
            items: up to the closing token of a frame.

        Raises:
            ModelError: a frame cannot be encoded.
        """
        if self._ahead is None or not self._ahead.goes_on_as(items):
            self.settle()
            sequence = self._decoder.cache.claim_beginning(items)
            if sequence is None:
                return
            self._ahead = _Course(sequence, items, len(sequence.items), sequence.end)
        try:
            self._advance(self._ahead, items, tally)
        except BaseException:  # it may have been sent in part
            self._ahead.failed = True
            raise

    def _advance(self, course: _Course, items: Sequence[Item], tally: Tally) -> None:
        course.prompt, settled = items, True
        for batch in batches(items, course.items, self._sizes):
            for piece in batch.slices:
                with tally.timing("encode_s"), self._interruptible.guard():
                    self._vision.prefetch(piece.slice, piece.cells)
            # The last one ends where it does because the beginning ends there, and a block of several slices may grow.
            settled = settled and batch.items < len(items) and all(len(piece.block.slices) == 1 for piece in batch.slices)
            if not settled:
                continue
            embedded = [self._vision.embed(piece.slice, piece.cells) for piece in batch.slices]
            self._send(course, batch, embedded, tally, Prefetched(batch.items, batch.cells, sum(fresh for _, fresh in embedded)))
            self._drain(self._most)

    def settle(self) -> None:
        """Wait for batches that :meth:`begin` sent; afterwards the sequences hold what they say."""
        course, self._ahead = self._ahead, None
        try:
            self._drain(0)
        finally:
            try:
                self._end(course)
            finally:
                if course is not None:  # a block that was cut off half-way leaves cells behind
                    self._decoder.cache.truncate(course.sequence, len(course.sequence.items))

    def run(self, sequence: CachedSequence, items: Sequence[Item], tally: Tally) -> Iterator[Progress]:
        """Decode the items that the sequence does not hold yet, yielding progress. Afterwards the last item's logits are available.

        Raises:
            ModelError: a frame cannot be encoded, no room is left, or llama.cpp failed.
        """
        course = _Course(sequence, items, len(sequence.items), sequence.end)
        todo = items[course.items :]
        total, done = cells_of(todo), 0
        slices, encoded = _slices(todo), 0
        images = _slices(items)
        tally.add(
            Usage(
                images=images,
                images_reused=images - slices - sum(batch.encoded for batch in sequence.prefetched),
                prompt_reused=sequence.cells - sum(batch.cells for batch in sequence.prefetched),
            )
        )
        sequence.prefetched.clear()
        try:
            for batch in batches(items, course.items, self._sizes):
                embedded: list[Embedded] = []
                for piece in batch.slices:
                    with tally.timing("encode_s"), self._interruptible.guard():
                        embedded.append(self._vision.embed(piece.slice, piece.cells))
                    encoded += 1
                    tally.add(Usage(images_reused=int(not embedded[-1].fresh)))
                    yield Progress("encode", encoded, slices)
                self._send(course, batch, embedded, tally)
                for cells in self._decoded(self._most):
                    done += cells
                    yield Progress("prefill", done, total)
            for cells in self._decoded(0):
                done += cells
                yield Progress("prefill", done, total)
        finally:
            self._end(course)
        with tally.timing("prefill_s"):
            self._decoder.wait()  # a GPU goes on after its calls; otherwise its last batch would count as decoding

    def _send(
        self, course: _Course, batch: Batch, embedded: Sequence[Embedded], tally: Tally, prefetched: Prefetched | None = None
    ) -> None:
        """Give a batch to llama.cpp. At most :attr:`_most` may be on their way."""
        filled = None
        if embedded:
            rows = self._rows(batch, embedded, course.position)
            filled = self._later(0, partial(self._decoder.fill, course.sequence, batch.cells, rows))
        course.position += sum(map(item_positions, course.prompt[course.items : batch.items]))
        course.items = batch.items
        decoded = self._later(1, partial(self._decode, course, course.prompt, batch, filled, tally, prefetched))
        self._sent.append((decoded, batch.cells))

    def _later(self, thread: int, work: Callable[[], T]) -> Future[T]:
        """Work for the thread of that number; done at once where there is none."""
        if self._threads:
            return self._threads[thread].submit(copy_context().run, self._interruptible.helped, work)
        future: Future[T] = Future()
        try:
            future.set_result(work())
        except ModelError as error:
            future.set_exception(error)
        return future

    def _decode(
        self,
        course: _Course,
        items: Sequence[Item],
        batch: Batch,
        filled: Future[Filled] | None,
        tally: Tally,
        prefetched: Prefetched | None,
    ) -> None:
        if course.failed:
            return
        sequence, logits = course.sequence, batch.items == len(items)
        try:
            embeddings = filled.result() if filled is not None else None
            with tally.timing("prefill_s"):
                if embeddings is None:
                    self._decoder.tokens(sequence, [piece for piece in batch.pieces if isinstance(piece, int)], logits=logits)
                else:
                    finished = items[len(sequence.items) : batch.items]
                    self._decoder.embeddings(sequence, embeddings, logits=logits)
                    for item in finished:
                        sequence.push(item)
        except BaseException:
            course.failed = True
            raise
        if batch.boundary:
            sequence.boundaries.append(batch.boundary)
        if prefetched is not None:
            sequence.prefetched.append(prefetched)

    def _decoded(self, most: int) -> Iterator[int]:
        """Cells of each batch that is decoded, until no more than ``most`` are on their way."""
        while len(self._sent) > most:
            yield self._take()

    def _drain(self, most: int) -> None:
        """Wait until no more than ``most`` batches are on their way, whether they can be decoded or not."""
        while len(self._sent) > most:
            with suppress(ModelError):
                self._take()

    def _take(self) -> int:
        """Wait for the first batch on its way, and return its cells."""
        decoded, cells = self._sent[0]
        with self._interruptible.guard():
            wait([decoded])
        self._sent.popleft()
        decoded.result()
        return cells

    def _end(self, course: _Course | None) -> None:
        """Leave out the batches that have not begun, and wait for the one that has, even if an interrupt kept it from being noted."""
        if course is not None:
            course.failed = True
        self._sent.clear()
        with self._interruptible.guard():
            for thread in self._threads:
                thread.wait()

    def _rows(self, batch: Batch, embedded: Sequence[Embedded], position: int) -> Iterator[Rows]:
        """The embeddings of a batch with frames, piece by piece, from a position on. Each is valid until the next.

        A block that began in an earlier batch is not among the sequence's items yet: its position is the sequence's end.
        """
        waiting = iter(embedded)
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
                copy_floats(embeddings, next(waiting).values)
                yield Rows(embeddings, piece.block.slice_positions(piece.index, position))
                if piece.index == len(piece.block.slices) - 1:
                    position += item_positions(piece.block)


def _slices(items: Sequence[Item]) -> int:
    return sum(len(item.slices) for item in items if isinstance(item, VisionBlock))
