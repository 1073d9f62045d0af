"""The nano SAGE-MM: Qwen3-VL's architecture in a few million parameters, and a forward pass made for training it on a CPU.

``transformers``' forward attends image by image and works positions out sample by sample; training batches hold hundreds of equal slices.
Here the slices go through the vision encoder as one batch and positions come with the samples. ``tests/training`` holds both to
``transformers``' own forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

PATCH: Final = 16
MERGE: Final = 2
GRID: Final = 6  # patches a side: 96 pixels
SLICE_TOKENS: Final = (GRID // MERGE) ** 2
IMAGE_PAD: Final = "<|image_pad|>"
ATTENTION: Final = "spans"
VISION_RMS: Final = 0.02  # of what the encoder says, for a start: as loud as text
VISION_MARK: Final = -1  # a part of the hidden state that is not zero in vision tokens alone
BRANCHES: Final = 64  # more than any sample has
CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", IMAGE_PAD, "<|video_pad|>")


def nano_config(vocabulary: int, control: dict[str, int]) -> Qwen3VLConfig:
    """The shape of the nano model. ``control`` gives the ids of :data:`CONTROL`."""
    return Qwen3VLConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 192,
            "intermediate_size": 384,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "head_dim": 32,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "mrope_section": [6, 5, 5], "mrope_interleaved": True, "rope_theta": 1e6},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": 192,
            "num_position_embeddings": GRID * GRID,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=control[IMAGE_PAD],
        video_token_id=control["<|video_pad|>"],
        vision_start_token_id=control["<|vision_start|>"],
        vision_end_token_id=control["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def new_model(vocabulary: int, control: dict[str, int]) -> Qwen3VLForConditionalGeneration:
    """An untrained nano model. Deepstack starts silent: early noise in the first layers only slows the readout down."""
    config = nano_config(vocabulary, control)
    config.text_config._attn_implementation = ATTENTION
    model = Qwen3VLForConditionalGeneration(config)
    for merger in model.model.visual.deepstack_merger_list:
        nn.init.zeros_(merger.linear_fc2.weight)
    return model


# ---- vision --------------------------------------------------------------------------------------------------------


def patches(frames: NDArray[np.uint8]) -> Tensor:
    """Frame pairs, shape ``(slices, 2, 96, 96, 3)``, as the encoder's patches ``(slices, 36, 1536)``: merge blocks of 2x2 patches in a
    row."""
    n = frames.shape[0]
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).float().div_(127.5).sub_(1.0)
    blocks = pixels.view(n, 2, GRID // MERGE, MERGE, PATCH, GRID // MERGE, MERGE, PATCH, 3)
    return blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(n, GRID * GRID, -1)


def _patch_places() -> Tensor:
    """Row and column of each patch in the order of :func:`patches`, shape ``(2, 36)``."""
    places = torch.arange(GRID * GRID).view(GRID // MERGE, MERGE, GRID // MERGE, MERGE).permute(0, 2, 1, 3).reshape(-1)
    return torch.stack([places // GRID, places % GRID])


_PLACES: Final = _patch_places()


def encode_slices(model: Qwen3VLForConditionalGeneration, slices: Tensor, *, deepstack_too: bool = True) -> tuple[Tensor, list[Tensor]]:
    """All slices as one batch.

    Args:
        slices: ``(n, 36, 1536)`` from :func:`patches`.

    Returns:
        Embeddings ``(n, 9, hidden)`` and the deepstack features, each of the same shape.
    """
    visual = model.model.visual
    n = slices.shape[0]
    hidden = functional.linear(slices, visual.patch_embed.proj.weight.flatten(1), visual.patch_embed.proj.bias)
    hidden = hidden + visual.pos_embed(_PLACES[0] * GRID + _PLACES[1])
    cos, sin = visual.rotary_pos_emb(hidden, _PLACES.T)
    deepstack = []
    for index, block in enumerate(visual.blocks):
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden)).view(n, GRID * GRID, 3, attention.num_heads, attention.head_dim)
        query, key, value = qkv.unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        mixed = functional.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        hidden = hidden + attention.proj(mixed.transpose(1, 2).reshape(n, GRID * GRID, -1))
        hidden = hidden + block.mlp(block.norm2(hidden))
        if index in visual.deepstack_visual_indexes and deepstack_too:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
            deepstack.append(merger(hidden).view(n, SLICE_TOKENS, -1))
    return visual.merger(hidden).view(n, SLICE_TOKENS, -1), deepstack


# ---- language ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packed:
    """Replies that share what comes first in their prompts: a stem, and branches that each see the stem and themselves.

    Many questions about one video cost little more than one: most of a prompt is frames.

    Attributes:
        ids: tokens of the stem, then of every branch (the rest of a prompt and its reply).
        weights: loss weight of each token; 0 in prompts.
        branches: of each token; 0 in the stem, counting from 1 in the branches.
        places: M-RoPE positions, ``(3, n)``; every branch goes on from the end of the stem.
        vision: what the encoder says of the stem's slices, ``(slices, 9, hidden)``; ``None`` without frames.
    """

    ids: list[int]
    weights: list[float]
    branches: list[int]
    places: NDArray[np.int64]
    vision: Tensor | None


def pack(stem: list[int], branches: Sequence[tuple[list[int], list[float]]], vision: Tensor | None, image_pad: int) -> Packed:
    """Lay a stem and its branches (tokens and loss weights) out."""
    places, next_place = positions(stem, image_pad)
    every = [places, *(positions(ids, image_pad, next_place)[0] for ids, _ in branches)]
    return Packed(
        stem + [token for ids, _ in branches for token in ids],
        [0.0] * len(stem) + [weight for _, weights in branches for weight in weights],
        [0] * len(stem) + [number for number, (ids, _) in enumerate(branches, start=1) for _ in ids],
        np.concatenate(every, axis=1),
        vision,
    )


def positions(ids: Sequence[int], image_pad: int, start: int = 0) -> tuple[NDArray[np.int64], int]:
    """M-RoPE positions ``(3, n)`` and the next one: text counts on in all three; a slice's tokens share a time and spread over rows and
    columns."""
    side = GRID // MERGE
    result = np.empty((3, len(ids)), np.int64)
    place = 0
    while place < len(ids):
        if ids[place] == image_pad:
            rows, columns = np.divmod(np.arange(SLICE_TOKENS), side)
            result[:, place : place + SLICE_TOKENS] = start + np.stack([np.zeros_like(rows), rows, columns])
            place, start = place + SLICE_TOKENS, start + side
        else:
            result[:, place] = start
            place, start = place + 1, start + 1
    return result, start


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where a reply token is to be predicted, over all samples of a batch in order.

    Attributes:
        logits: ``(n, vocabulary)``.
        targets, weights: ``(n,)``; token ids and loss weights.
        replies: ``(n,)``; which reply of the batch.
    """

    logits: Tensor
    targets: Tensor
    weights: Tensor
    replies: Tensor


class Span(NamedTuple):
    """Tokens of a row that see each other backwards, and all of another span: their stem, by its number."""

    size: int
    stem: int | None


def _spans(samples: Sequence[Packed]) -> list[Span]:
    """The stems and branches of samples laid end to end."""
    spans: list[Span] = []
    for sample in samples:
        stem, *branches = np.bincount(sample.branches).tolist()
        number = len(spans) if stem else None
        spans += [Span(stem, None)] if stem else []
        spans += [Span(size, number) for size in branches]
    return spans


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, spans: Sequence[Span] | None = None, **more: Any
) -> tuple[Tensor, None]:
    """Attention span by span, in single precision: no work on padding, nor between branches. Tensors are ``(1, heads, tokens, head_dim)``,
    the result ``(1, tokens, heads, head_dim)``. Without spans it is ``transformers``' own.
    """
    if spans is None:
        return sdpa_attention_forward(module, query, key, value, mask, **more)
    sizes = [span.size for span in spans]
    pieces = []
    with torch.autocast(query.device.type, enabled=False):
        queries, keys, values = (tensor.float().split(sizes, dim=2) for tensor in (query, key, value))
        for number, (size, stem) in enumerate(spans):
            seen, told, allowed = keys[number], values[number], None
            if stem is not None:
                seen, told = torch.cat([keys[stem], seen], dim=2), torch.cat([values[stem], told], dim=2)
                allowed = torch.ones(size, sizes[stem] + size, dtype=torch.bool).tril(sizes[stem])
            pieces.append(
                functional.scaled_dot_product_attention(
                    queries[number], seen, told, attn_mask=allowed, is_causal=stem is None, scale=more["scaling"]
                )
            )
    return torch.cat(pieces, dim=2).transpose(1, 2), None


AttentionInterface.register(ATTENTION, _attend)


def forward(model: Qwen3VLForConditionalGeneration, samples: Sequence[Packed], image_pad: int) -> Prediction:
    """Predict the reply tokens of some samples, laid end to end in one row."""
    ids = torch.tensor([token for sample in samples for token in sample.ids])
    weights = torch.tensor([weight for sample in samples for weight in sample.weights])
    numbers = torch.cat([BRANCHES * row + torch.tensor(sample.branches) for row, sample in enumerate(samples)])
    places = torch.from_numpy(np.concatenate([sample.places for sample in samples], axis=1))
    embedded = model.model.language_model.embed_tokens(ids)
    if vision := [sample.vision for sample in samples if sample.vision is not None]:
        embedded = embedded.masked_scatter((ids == image_pad)[:, None], torch.cat(vision).to(embedded.dtype))
    hidden = model.model.language_model(
        inputs_embeds=embedded[None], position_ids=places[:, None], use_cache=False, spans=_spans(samples)
    ).last_hidden_state[0]
    wanted = torch.nonzero(weights).flatten()  # never the first token of a sample: that is of a prompt
    return Prediction(model.lm_head(hidden[wanted - 1]).float(), ids[wanted], weights[wanted], numbers[wanted])


def save(model: nn.Module, path: Path) -> None:
    """Save the weights in one file, written beside and renamed: a reader never sees half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
