"""Which sequence a prompt continues, and which one gives way. The context is real, so that cells are seen to be freed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from sage_cli.model.batches import BEFORE_FRAMES, Boundary, end_of_frames
from sage_cli.model.decoder import Decoder
from sage_cli.model.kvcache import KVCache, Prefetched
from sage_cli.model.libraries import llama
from sage_cli.model.llama import LlamaModel
from sage_cli.model.qwen import Item, Slice, VisionBlock
from sage_cli.video import Frame
from tests.models import TinyModel

pytestmark = pytest.mark.parametrize("family", ["qwen3-vl"], indirect=True)


@pytest.fixture(scope="module")
def model(tiny: TinyModel) -> Iterator[LlamaModel]:
    with LlamaModel(tiny.text, tiny.mmproj, context_size=256, threads=1) as model:
        yield model


@pytest.fixture
def decoder(model: LlamaModel) -> Decoder:
    model.forget()
    return model._opened()[0]


@pytest.fixture
def cache(decoder: Decoder) -> KVCache:
    return decoder.cache


def frames(name: str) -> VisionBlock:
    """A block of 8 cells and 4 positions."""
    return VisionBlock((Slice((Frame(0.0, np.zeros((64, 128, 3), np.uint8), name),)),), 2, 4, (0,))


SEEN, OTHER = frames("seen"), frames("other")


def hold(cache: KVCache, *contents: Sequence[Item]) -> None:
    """Let the sequences hold these items, used in this order, with a batch boundary after each item."""
    for sequence, items in zip(cache.sequences, contents, strict=False):
        cache._tick += 1
        sequence.last_used = cache._tick
        for count, item in enumerate(items, start=1):
            sequence.push(item)
            end = end_of_frames(items)
            sequence.boundaries.append(Boundary(count, end if count >= end else BEFORE_FRAMES))


@pytest.mark.parametrize(
    ("contents", "wanted", "number", "kept"),
    [
        ([[1, 2], [], [], []], [3, 4], 1, 0),  # room is left: nothing is lost
        ([[1] * 5, [2] * 3, [3] * 4, [4] * 6], [9], 1, 0),  # the least is lost
        ([[1] * 3, [2] * 3, [3] * 3, [4] * 3], [9], 0, 0),  # that was used longest ago
        ([[1, 2, 3], [1, 2, 3, 4], [9], []], [1, 2, 3, 4, 5], 1, 4),  # most is shared
        ([[1, 2, 3, 7, 7, 7, 7], [], [], []], [1, 2, 3, 4], 0, 3),  # text after it may go
        ([[1, SEEN, 2], [], [], []], [1, 2], 1, 0),  # frames may not: a few words are not worth them
        ([[1, SEEN, 2], [], [], []], [1, SEEN, 3], 0, 2),
        ([[1, SEEN, OTHER], [], [], []], [1, SEEN, 3], 0, 2),
        ([[1, SEEN, 2], [], [], []], [1, SEEN, 2, OTHER, 2, 3], 0, 2),  # the end of its frames is no boundary of more frames
        ([[1, 2], [], [], []], [1, 2], 0, 1),  # the last item's logits are still needed
        ([[1, 2, 3], [], [], []], [1, 2], 0, 1),
        ([[1, OTHER], [], [], []], [1, SEEN, 3], 1, 0),  # of the same size, and yet other frames
        ([[5] * 9 + [SEEN] + [6] * 2, [5] * 8 + [6] * 30, [1] * 99, [2] * 99], [5] * 9, 1, 8),
        ([[5] * 9 + [SEEN], [5], [1] * 99, [2] * 99], [5] * 9 + [OTHER, 1], 0, 9),  # more is saved than lost
    ],
)
def test_a_prompt_continues_where_least_is_lost_and_most_is_saved(
    cache: KVCache, contents: list[list[Item]], wanted: list[Item], number: int, kept: int
) -> None:
    hold(cache, *contents)
    sequence = cache.claim(wanted)
    assert (sequence.id, sequence.items) == (number, wanted[:kept])
    assert [boundary.items for boundary in sequence.boundaries] == list(range(1, kept + 1))
    assert sequence.last_used == max(other.last_used for other in cache.sequences) == cache._tick


def test_without_reuse_every_prompt_is_decoded_from_its_start(decoder: Decoder) -> None:
    cache = KVCache(decoder.context, 256, release=lambda: False, reuse=False)
    hold(cache, [1, 2, 3])
    assert cache.claim([1, 2, 3, 4]).items == []


def test_a_beginning_that_is_held_claims_nothing(cache: KVCache) -> None:
    hold(cache, [1, SEEN, 2], [3])
    assert cache.claim_beginning([1, SEEN]) is None
    assert cache.claim_beginning([1, SEEN, 2]) is None
    assert [len(sequence.items) for sequence in cache.sequences] == [3, 1, 0, 0]
    claimed = cache.claim_beginning([1, OTHER])
    assert claimed is not None
    assert claimed.items == []


def test_the_sequence_that_is_worth_least_gives_way(cache: KVCache) -> None:
    """Neither the smallest nor the oldest one: cells divided by age."""
    hold(cache, [1] * 16, [2] * 9, [3] * 12, [4] * 5)
    newest = cache.sequences[3]
    for left in ([0, 2, 3], [2, 3], [3]):  # worth 9 / 3 and 16 / 4 and 12 / 2
        assert cache.make_room(newest)
        assert [sequence.id for sequence in cache.sequences if sequence.items] == left
    assert not cache.make_room(newest)
    assert newest.cells == 5
    hold(cache, [1])
    assert cache.make_room(newest)  # of the one used last, too


def test_cells_that_nothing_needs_go_before_any_sequence(decoder: Decoder) -> None:
    given = [True, False]
    cache = KVCache(decoder.context, 256, release=lambda: given.pop(0), reuse=True)
    hold(cache, [1], [2])
    assert cache.make_room(cache.sequences[0])
    assert cache.sequences[1].items
    assert cache.make_room(cache.sequences[0])
    assert not cache.sequences[1].items


def cells(decoder: Decoder) -> list[int]:
    """What llama.cpp holds: one less than the positions of each sequence."""
    memory = llama.llama_get_memory(decoder.context)
    return [int(llama.llama_memory_seq_pos_max(memory, sequence.id)) for sequence in decoder.cache.sequences]


def test_what_is_dropped_leaves_the_cells_and_the_record(decoder: Decoder, cache: KVCache) -> None:
    sequence, other = cache.sequences[1], cache.sequences[2]
    for one in (sequence, other):
        decoder.tokens(one, list(range(10)), logits=False)
    assert cells(decoder) == [-1, 9, 9, -1]
    sequence.boundaries = [Boundary(count, 0) for count in (3, 6, 9)]
    sequence.prefetched = [Prefetched(count, count, 0) for count in (3, 6, 9)]
    cache.truncate(sequence, 6)
    assert cells(decoder) == [-1, 5, 9, -1]
    assert (sequence.items, sequence.cells, sequence.end) == (list(range(6)), 6, 6)
    assert [[kept.items for kept in record] for record in (sequence.boundaries, sequence.prefetched)] == [[3, 6], [3, 6]]
    cache.clear()
    assert cells(decoder) == [-1] * 4
    assert not any(one.items or one.cells or one.end for one in cache.sequences)


def test_frames_take_more_cells_than_positions(cache: KVCache) -> None:
    hold(cache, [1, SEEN, 2])
    sequence = cache.sequences[0]
    assert (sequence.cells, sequence.end) == (10, 6)
    cache.truncate(sequence, 2)
    assert (sequence.cells, sequence.end) == (9, 5)
    cache.truncate(sequence, 1)
    assert (sequence.cells, sequence.end) == (1, 1)
