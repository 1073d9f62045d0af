"""Where a prompt is cut: what is held of it never changes the batches of the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sage_cli.model.batches import ON_CPU, ON_GPU, Batch, BatchSizes, batches, cells_of, end_of_frames
from sage_cli.model.qwen import Item, Slice, VisionBlock
from sage_cli.video import Frame

SMALL = BatchSizes(capacity=40, frames=30, text=10)


def block(slices: int, rows: int = 2, columns: int = 4) -> VisionBlock:
    frame = Frame(0.0, np.zeros((64, 128, 3), np.uint8), "frame")
    return VisionBlock(tuple(Slice((frame,)) for _ in range(slices)), rows, columns, tuple(range(slices)))


def prompt(seed: int) -> list[Item]:
    """Text, blocks of one or several slices, text."""
    rng = np.random.default_rng(seed)
    items: list[Item] = [1] * int(rng.integers(1, 60))
    for _ in range(int(rng.integers(0, 9))):
        items += [2] * int(rng.integers(1, 9)) + [block(int(rng.integers(1, 6)), *map(int, rng.integers(1, 9, 2)))] + [3]
    return items + [4] * int(rng.integers(1, 50))


def cut(items: Sequence[Item], held: int = 0, sizes: BatchSizes = SMALL) -> list[Batch]:
    return list(batches(items, held, sizes))


@pytest.mark.parametrize("seed", range(40))
def test_all_is_decoded_once_and_in_order(seed: int) -> None:
    items = prompt(seed)
    found = cut(items)
    assert sum(batch.cells for batch in found) == cells_of(items)
    slices = [(piece.block, piece.index) for batch in found for piece in batch.slices]
    assert slices == [(item, index) for item in items if isinstance(item, VisionBlock) for index in range(len(item.slices))]
    assert [piece for batch in found for piece in batch.pieces if isinstance(piece, int)] == [
        item for item in items if isinstance(item, int)
    ]
    assert [batch.items for batch in found] == sorted(batch.items for batch in found)
    assert found[-1].items == len(items)


@pytest.mark.parametrize("seed", range(40))
def test_a_boundary_is_one_of_every_prompt_that_it_serves(seed: int) -> None:
    """From a boundary of one prompt, another one that begins alike is cut as from its own start."""
    items, more = prompt(seed), prompt(seed + 1000)
    for share in (0.2, 0.5, 0.9, 1.0):
        shared = items[: int(len(items) * share)]
        second = [*shared, *more]
        whole = cut(second)
        for batch in cut(items):
            boundary = batch.boundary
            if boundary and boundary.items <= len(shared) and boundary.serves(end_of_frames(second)):
                (at,) = [number for number, other in enumerate(whole) if other.boundary and other.boundary.items == boundary.items]
                assert cut(second, boundary.items) == whole[at + 1 :]


def test_another_question_shares_all_up_to_the_last_frame() -> None:
    frames: list[Item] = [1, 1, block(1), 2, 1, block(1), 2]
    first, second = [*frames, 5, 6], [*frames, 7]
    end = end_of_frames(first)
    assert end == len(frames)
    assert any(batch.boundary and batch.boundary.items == end and batch.boundary.serves(end_of_frames(second)) for batch in cut(first))


@pytest.mark.parametrize("slices", [1, 4, 5], ids=["part", "full", "over"])
def test_the_last_frame_ends_a_batch_however_full(slices: int) -> None:
    items: list[Item] = [1, block(slices, 2, 4), 2]
    (end,) = [batch.boundary for batch in cut([*items, 5]) if batch.boundary and batch.boundary.items == 3]
    assert end.serves(3)


def test_more_frames_share_the_full_batches_of_fewer() -> None:
    few: list[Item] = [1, block(4), 2, 1, block(1), 2]
    more = [*few, 1, block(1), 2, 9]
    served = [batch.boundary.items for batch in cut([*few, 5]) if batch.boundary and batch.boundary.serves(end_of_frames(more))]
    assert served == [2]


def test_cached_text_serves_up_to_the_last_full_batch() -> None:
    first, second = [1] * 25, [*[1] * 20, 2]
    end = end_of_frames(second)
    assert [batch.boundary.items for batch in cut(first) if batch.boundary and batch.boundary.serves(end)] == [10, 20]


def test_more_frames_do_not_share_the_end_of_fewer() -> None:
    few: list[Item] = [1, block(1), 2]
    more = [*few, 1, block(1), 2, 9]
    (boundary,) = [batch.boundary for batch in cut([*few, 5]) if batch.boundary]
    assert boundary.items == len(few)
    assert not boundary.serves(end_of_frames(more))


@pytest.mark.parametrize("sizes", [ON_CPU, ON_GPU])
def test_frames_of_the_reference_fit_a_batch(sizes: BatchSizes) -> None:
    """64 slices of 91 cells with their times: no batch exceeds what llama.cpp computes at once."""
    items: list[Item] = [1] * 300
    for _ in range(64):
        items += [*[2] * 7, block(1, 7, 13), 3]
    assert max(batch.cells for batch in cut(items, sizes=sizes)) <= sizes.capacity
