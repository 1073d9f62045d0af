"""How a prompt is cut into batches: text and vision slices together, with boundaries that any prompt with the same beginning shares.

Kernels round differently for different batch sizes, and a cache must not change an answer. So a cached prefix is used only up to a *batch
boundary*: a place where the prompt at hand would end a batch too if it were decoded from its start. A batch therefore ends as soon as it
holds enough cells, whatever follows, and the last frame ends one: after it comes the question, and another question finds all before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sage_cli.model.qwen import Item, Slice, VisionBlock, item_cells

# Of a boundary among the frames, where the batches are counted from the prompt's start.
BEFORE_FRAMES: Final = -1


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Batch sizes in cells.

    Attributes:
        capacity: maximum cells that llama.cpp computes at once (``n_ubatch``); larger batches are decoded in equal parts.
        frames: a batch with frames ends once it holds this many.
        text: the same for text alone. Cached text is reused up to the last whole batch.
    """

    capacity: int
    frames: int
    text: int


# A processor reads as fast in small batches, and then more of a cached prompt can be used again.
ON_CPU: Final = BatchSizes(capacity=512, frames=64, text=64)
# A GPU wants larger ones. Frames of the reference's size take some 100 cells with their times, so that they nearly fill these. Yet larger
# ones gain nothing, and reach the device later (Qwen3-VL-4B on an H200, ``python -m benchmarks.wall``).
ON_GPU: Final = BatchSizes(capacity=512, frames=448, text=512)


@dataclass(frozen=True, slots=True)
class SlicePiece:
    """One slice of a vision block."""

    block: VisionBlock
    index: int

    @property
    def slice(self) -> Slice:
        return self.block.slices[self.index]

    @property
    def cells(self) -> int:
        return self.block.rows * self.block.columns


Piece: TypeAlias = int | SlicePiece  # a text token, or a slice


@dataclass(frozen=True, slots=True)
class Boundary:
    """A position between two items where a batch ends.

    Attributes:
        items: number of items before it.
        counted_from: the item that batches are counted from there: the end of the prompt's frames, or :data:`BEFORE_FRAMES`.
    """

    items: int
    counted_from: int

    def serves(self, end: int) -> bool:
        """Whether a prompt that begins with the same items, and whose frames end at item ``end``, ends a batch here, too."""
        return self.items <= end if self.counted_from == BEFORE_FRAMES else self.counted_from == end


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch to decode.

    Attributes:
        pieces: text tokens and slices, in order.
        items: items of the prompt that are complete at its end.
        boundary: at its end; ``None`` in the middle of a block, or where the prompt simply ends.
    """

    pieces: tuple[Piece, ...]
    items: int
    boundary: Boundary | None

    @property
    def cells(self) -> int:
        return sum(piece.cells if isinstance(piece, SlicePiece) else 1 for piece in self.pieces)

    @property
    def slices(self) -> list[SlicePiece]:
        return [piece for piece in self.pieces if isinstance(piece, SlicePiece)]


def batches(items: Sequence[Item], held: int, sizes: BatchSizes) -> Iterator[Batch]:
    """The batches in which a prompt is decoded from its item number ``held`` on, which is at a boundary or the start."""
    end = end_of_frames(items)
    yield from _filled(items, range(held, end), sizes.frames, BEFORE_FRAMES, Boundary(end, end))
    yield from _filled(items, range(max(held, end), len(items)), sizes.text, end, None)


def _filled(items: Sequence[Item], numbers: range, enough: int, counted_from: int, last: Boundary | None) -> Iterator[Batch]:
    pieces: list[Piece] = []
    cells = 0
    for number in numbers:
        item = items[number]
        parts: list[Piece] = [SlicePiece(item, index) for index in range(len(item.slices))] if isinstance(item, VisionBlock) else [item]
        for at, part in enumerate(parts, start=1):
            pieces.append(part)
            cells += part.cells if isinstance(part, SlicePiece) else 1
            whole = at == len(parts)
            if cells >= enough:
                yield Batch(tuple(pieces), number + whole, Boundary(number + 1, counted_from) if whole else None)
                pieces, cells = [], 0
    if pieces:
        yield Batch(tuple(pieces), numbers.stop, last)


def end_of_frames(items: Sequence[Item]) -> int:
    """Number of items up to and including the last vision block and its closing token; 0 without a vision block."""
    for index in range(len(items) - 1, -1, -1):
        if isinstance(items[index], VisionBlock):
            return min(len(items), index + 2)
    return 0


def cells_of(items: Sequence[Item]) -> int:
    """KV cells of the items."""
    return sum(map(item_cells, items))
