"""A bank of slices: pictures of every thing and pair of things, embedded once, from which training videos are put together.

The vision encoder stays as the warm-up left it, so its embeddings can be made once. :class:`SliceIndex` says which row of the bank shows
what and needs no model: processes that write samples hold it alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.model import device_of, encode_slices, patches
from training.streams import Interleaved
from training.vision import STREAMS, some_slices
from training.world import COLOURS, SHAPES, Thing, World

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

_BATCH: Final = 256  # slices embedded at once


class SliceIndex:
    """Which rows of the bank show what.

    Args:
        alike: slices of each thing that show it twice.
        mixed: slices of each pair of things that differ in shape and colour.
    """

    def __init__(self, alike: int, mixed: int) -> None:
        every = [Thing(shape, colour) for shape in SHAPES for colour in COLOURS]
        self.pairs: list[tuple[Thing, Thing]] = []
        self._rows: dict[tuple[Thing, Thing], range] = {}
        kinds = [((thing, thing), alike) for thing in every]
        kinds += [((a, b), mixed) for a in every for b in every if a.shape != b.shape and a.colour != b.colour]
        for pair, number in kinds:
            self._rows[pair] = range(len(self.pairs), len(self.pairs) + number)
            self.pairs += [pair] * number

    def rows(self, rng: random.Random, pairs: Iterable[tuple[Thing, Thing]]) -> list[int]:
        """Rows that show these pairs of things."""
        return [rng.choice(self._rows[pair]) for pair in pairs]

    def show(self, rng: random.Random, world: World, times: Sequence[float]) -> list[int]:
        """Rows that show frames of a world at these times, two a row; a last frame without a partner is its own."""
        things = [world.shown(time).thing for time in times]
        return self.rows(rng, zip(things[::2], [*things[1::2], *things[-1:]], strict=False))


class BankStream:
    """Pictures of the bank's slices in batches, by the number of a stream: batches ``number``, ``number + STREAMS``, and so on."""

    def __init__(self, index: SliceIndex, seed: int) -> None:
        self._pairs, self._seed = index.pairs, seed

    def __call__(self, number: int) -> Iterator[NDArray[np.uint8]]:
        for at in range(number * _BATCH, len(self._pairs), STREAMS * _BATCH):
            rng, noise = random.Random(f"bank/{self._seed}/{at}"), np.random.default_rng([self._seed, at])
            yield some_slices(rng, noise, self._pairs[at : at + _BATCH])[0]


@torch.no_grad()
def embed_bank(model: Qwen3VLForConditionalGeneration, index: SliceIndex, seed: int, workers: int = 0) -> Tensor:
    """Embeddings of the bank's slices, ``(rows, 9, width)``, on the model's device.

    Args:
        workers: processes that draw.
    """
    batches = -(-len(index.pairs) // _BATCH)
    with closing(Interleaved(BankStream(index, seed), min(STREAMS, batches), workers)) as pictures:
        pieces = [
            encode_slices(model, patches(torch.from_numpy(frames).to(device_of(model))), deepstack_too=False)[0]
            for frames in islice(pictures, batches)
        ]
    return torch.cat(pieces)
