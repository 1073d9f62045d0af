"""The KV cache of one llama.cpp context as a few sequences, each with a record of its contents.

A prompt continues the sequence with which it shares most, and only the rest is decoded. By that rule alone, prompts of different kinds (the
first look with its frames, text-only reasoning, a tool's own question) end up in different sequences, so a tool does not evict the video's
frames while there is room for both. All sequences share one pool of cells (``kv_unified``).

Reuse changes no result beyond rounding: the same items are decoded in the same batches as without it (:mod:`.batches`). Which cells of the
pool a sequence takes still moves a logit a little: kernels add up in the order of cells, and flash attention rounds coarsely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sage_cli.model.batches import Boundary, cells_of, end_of_frames
from sage_cli.model.libraries import llama
from sage_cli.model.qwen import Item, VisionBlock, item_cells, item_positions

MAX_SEQUENCES: Final = 4


class Prefetched(NamedTuple):
    """A batch that was decoded in advance: the number of items up to its end, its cells, and how many of its slices had to be encoded."""

    items: int
    cells: int
    encoded: int


@dataclass(eq=False)
class CachedSequence:
    """The contents of one sequence.

    Attributes:
        items: in order.
        boundaries: where batches ended; the next prompt reuses the sequence up to a boundary that it shares.
        prefetched: batches that were decoded for a prompt that is still to come.
        cells: KV cells they take.
        end: position of the next item.
        last_used: tick of the last claim.
    """

    id: int
    items: list[Item] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    prefetched: list[Prefetched] = field(default_factory=list)
    cells: int = 0
    end: int = 0
    last_used: int = 0

    def push(self, item: Item) -> None:
        """Record an item that was decoded at :attr:`end`."""
        self.items.append(item)
        self.cells += item_cells(item)
        self.end += item_positions(item)


class KVCache:
    """Assigns the cells of a llama.cpp context to sequences.

    Args:
        context: ``llama_context *`` made with ``n_seq_max >= MAX_SEQUENCES`` and ``kv_unified``.
        size: total cells.
        release: frees cells that no sequence here holds any more; returns whether there were any.
        reuse: ``False`` decodes every prompt from its start, in the same cells.
    """

    def __init__(self, context: Any, size: int, *, release: Callable[[], bool], reuse: bool) -> None:
        self._reuse, self._release = reuse, release
        self._memory = llama.llama_get_memory(context)
        self.size = size
        self.sequences = [CachedSequence(i) for i in range(MAX_SEQUENCES)]
        self._tick = 0

    def claim(self, items: Sequence[Item]) -> CachedSequence:
        """The sequence to decode ``items`` in, cut back to the prefix of them that it holds.

        At least the last item is left to decode: its logits are what generation starts from.
        """
        self._tick += 1
        best = min(self.sequences, key=lambda sequence: (_loss(sequence, items), sequence.last_used))
        self.truncate(best, _shared(best, items) if self._reuse else 0)
        best.last_used = self._tick
        return best

    def claim_beginning(self, items: Sequence[Item]) -> CachedSequence | None:
        """The same for the beginning of a prompt that is still to come; ``None`` if a sequence holds all of it, and maybe more."""
        if any(sequence.items[: len(items)] == items for sequence in self.sequences):
            return None
        return self.claim(items)

    def make_room(self, sequence: CachedSequence) -> bool:
        """Free cells that nothing needs, or drop the least valuable other sequence; returns whether that was possible."""
        if self._release():
            return True
        others = [other for other in self.sequences if other is not sequence and other.items]
        if not others:
            return False
        self.truncate(min(others, key=self._worth), 0)
        return True

    def truncate(self, sequence: CachedSequence, keep: int) -> None:
        """Drop all but the first ``keep`` items. Also drops cells of a decode that did not finish."""
        for item in sequence.items[keep:]:
            sequence.cells -= item_cells(item)
            sequence.end -= item_positions(item)
        del sequence.items[keep:]
        sequence.boundaries = [boundary for boundary in sequence.boundaries if boundary.items <= keep]
        sequence.prefetched = [batch for batch in sequence.prefetched if batch.items <= keep]
        llama.llama_memory_seq_rm(self._memory, sequence.id, sequence.end, -1)

    def clear(self) -> None:
        """Drop all sequences."""
        llama.llama_memory_clear(self._memory, False)
        self.sequences = [CachedSequence(i) for i in range(MAX_SEQUENCES)]

    def _worth(self, sequence: CachedSequence) -> float:
        """The cost of losing a sequence, weighted by how recently it was used: its cells divided by the calls since then."""
        return sequence.cells / (self._tick - sequence.last_used + 1)


def _loss(sequence: CachedSequence, wanted: Sequence[Item]) -> int:
    """Cells to compute again if the sequence is used for ``wanted``, less the cells saved.

    Text after a shared prefix costs nothing: it is an older question or tool log. Frames do: the next question may need them again.
    """
    keep = _shared(sequence, wanted)
    if not keep:
        return sequence.cells
    frames = sum(item_cells(item) for item in sequence.items[keep:] if isinstance(item, VisionBlock))
    return frames - cells_of(sequence.items[:keep])


def _shared(sequence: CachedSequence, wanted: Sequence[Item]) -> int:
    """How many leading items of ``wanted`` the sequence holds, up to a batch boundary, and never all of them."""
    pairs = enumerate(zip(sequence.items, wanted, strict=False))
    same = next((index for index, (held, item) in pairs if held != item), len(wanted) - 1)
    end = end_of_frames(wanted)
    return max((boundary.items for boundary in sequence.boundaries if boundary.items <= same and boundary.serves(end)), default=0)
