"""Vision embeddings made to fit the language model before it trains: rescaled to the text embeddings' RMS, and moved towards the words
for what they show."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.model import VISION_MARK, VISION_RMS, encode_slices, patches
from training.tokens import Encoder
from training.vision import some_pairs, some_slices
from training.world import COLOURS, SHAPES

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration


@torch.no_grad()
def rescale(model: Qwen3VLForConditionalGeneration) -> None:
    """Scale the encoder's output to :data:`VISION_RMS`. The warm-up leaves it hundreds of times larger than text embeddings: what the
    layers add to a vision token (when it was seen, what came before) would be lost in it.
    """
    slices = patches(some_slices(random.Random(0), np.random.default_rng(0), some_pairs(random.Random(0), 64))[0])
    rms = encode_slices(model, slices, deepstack_too=False)[0].square().mean().sqrt()
    for parameter in model.model.visual.merger.linear_fc2.parameters():
        parameter.mul_(VISION_RMS / rms)


@torch.no_grad()
def align(model: Qwen3VLForConditionalGeneration, encoder: Encoder, count: int = 1500) -> None:
    """Add to the encoder's last matrix the linear readout of its output that comes closest to the embeddings of the words for what a
    slice shows. Then a text can attend to what it names among the slices as to a word among words, and describing is copying.

    Args:
        count: slices that the readout is fitted to.
    """
    rng, noise = random.Random(1), np.random.default_rng(1)
    pairs = some_pairs(rng, count)
    batches = [patches(some_slices(rng, noise, pairs[at : at + 100])[0]) for at in range(0, len(pairs), 100)]
    seen = torch.cat([encode_slices(model, batch, deepstack_too=False)[0] for batch in batches])
    table = model.model.language_model.embed_tokens.weight
    spelled = {word: [encoder.plain(text) for text in (f" {word}", word)] for word in (*COLOURS, *SHAPES)}
    words = {word: sum(table[ids[0]] - table.mean(0) for ids in ways if len(ids) == 1) for word, ways in spelled.items()}
    said = torch.stack([sum(words[word] for thing in pair for word in (thing.colour, thing.shape)) for pair in pairs])
    said *= VISION_RMS / said.square().mean().sqrt()
    inputs = torch.cat([seen, torch.ones(*seen.shape[:2], 1)], dim=2).flatten(0, 1)
    solved = torch.linalg.lstsq(inputs, said[:, None].expand_as(seen).flatten(0, 1)).solution.T
    last = model.model.visual.merger.linear_fc2
    last.weight += solved[:, :-1] @ last.weight
    last.bias += solved[:, :-1] @ last.bias + solved[:, -1]
    last.weight[VISION_MARK], last.bias[VISION_MARK] = 0, 4 * VISION_RMS
