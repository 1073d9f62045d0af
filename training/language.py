"""The language model's forward pass on many short samples at once, with the weights of ``transformers``' module.

Samples of one batch are laid end to end in one row of tokens. Everything but attention runs on that row; attention runs block by block,
where a block is some samples of similar length, padded to the longest. :class:`Cache` holds keys and values for decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.model import GRID, MERGE, SLICE_TOKENS, rotate

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

BRANCHES: Final = 64  # more than any sample has
_ALIGNED: Final = 16  # tokens; lengths of blocks that GPU kernels like
_EPSILON: Final = 1e-6  # of RMS norms, in every Qwen3-VL
_PADDING: Final = -1  # branch of tokens that fill a block up

# ---- samples -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packed:
    """Replies that share the beginning of their prompts: a stem, and branches that each see the stem and themselves.

    Many questions about one video cost little more than one: most of a prompt is frames.

    Attributes:
        ids: tokens of the stem, then of every branch (the rest of a prompt and its reply); shape ``(n,)``.
        weights: loss weight of each token; 0 in prompts.
        branches: of each token; 0 in the stem, counting from 1 in the branches.
        places: M-RoPE positions, ``(3, n)``; every branch goes on from the end of the stem.
        slices: rows of the table of slice embeddings that the stem shows, in order.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    branches: NDArray[np.int32]
    places: NDArray[np.int32]
    slices: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)


def pack(stem: list[int], branches: Sequence[tuple[list[int], list[float]]], slices: Sequence[int], image_pad: int) -> Packed:
    """Lay a stem and its branches (tokens and loss weights) out."""
    places, next_place = positions(stem, image_pad)
    every = [places, *(positions(ids, image_pad, next_place)[0] for ids, _ in branches)]
    numbers = [0] * len(stem) + [number for number, (ids, _) in enumerate(branches, start=1) for _ in ids]
    return Packed(
        np.array(stem + [token for ids, _ in branches for token in ids], np.int32),
        np.array([0.0] * len(stem) + [weight for _, weights in branches for weight in weights], np.float32),
        np.array(numbers, np.int32),
        np.concatenate(every, axis=1),
        np.array(slices, np.int32),
    )


def positions(ids: Sequence[int], image_pad: int, start: int = 0) -> tuple[NDArray[np.int32], int]:
    """M-RoPE positions ``(3, n)`` and the next one: text counts on in all three; a slice's tokens share a time and spread over rows and
    columns."""
    side = GRID // MERGE
    result = np.empty((3, len(ids)), np.int32)
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
class Batch:
    """Samples laid end to end, sorted by length, with what the forward pass needs to know of them. Arrays, so that another process can
    make it.

    Attributes:
        ids, places, branches: of every token; padding has branch -1.
        blocks: ``(rows, length)`` of each attention block, in order.
        slices: rows of the slice table shown, and ``seen`` the tokens that show them.
        wanted: tokens to be predicted; ``weights``, ``targets``, ``replies`` (sample number times :data:`BRANCHES` plus branch) and
            ``parts`` are theirs.
    """

    ids: NDArray[np.int32]
    places: NDArray[np.int32]
    branches: NDArray[np.int32]
    blocks: tuple[tuple[int, int], ...]
    slices: NDArray[np.int32]
    seen: NDArray[np.int32]
    wanted: NDArray[np.int32]
    weights: NDArray[np.float32]
    targets: NDArray[np.int32]
    replies: NDArray[np.int32]
    parts: NDArray[np.int32]


def collate(parts: Sequence[Sequence[Packed]], image_pad: int, *, similar: float) -> Batch:
    """Make a batch of some parts, each of some samples.

    Args:
        similar: least length of a sample of a block, as a share of the longest. 1 pads nothing, and attends in many small blocks: right
            for a CPU. A GPU prefers few large ones.
    """
    samples = [(sample, number) for number, part in enumerate(parts) for sample in part]
    order = sorted(range(len(samples)), key=lambda index: -len(samples[index][0]))
    groups: list[list[int]] = []
    for index in order:
        if not groups or len(samples[index][0]) < similar * len(samples[groups[-1][0]][0]):
            groups.append([])
        groups[-1].append(index)
    lengths = [len(samples[group[0]][0]) for group in groups]
    if similar < 1:
        lengths = [-(-length // _ALIGNED) * _ALIGNED for length in lengths]
    total = sum(len(group) * length for group, length in zip(groups, lengths, strict=True))
    ids, places = np.zeros(total, np.int32), np.zeros((3, total), np.int32)
    branches = np.full(total, _PADDING, np.int32)
    weights, owners, part_of = np.zeros(total, np.float32), np.zeros(total, np.int32), np.zeros(total, np.int32)
    slices: list[NDArray[np.int32]] = []
    at = 0
    for group, length in zip(groups, lengths, strict=True):
        for index in group:
            sample, part_number = samples[index]
            here = slice(at, at + len(sample))
            ids[here], places[:, here], branches[here], weights[here] = sample.ids, sample.places, sample.branches, sample.weights
            owners[here], part_of[here] = index, part_number
            slices.append(sample.slices)
            at += length
    wanted = np.flatnonzero(weights).astype(np.int32)  # never the first token of a sample: that is of a prompt
    return Batch(
        ids,
        places,
        branches,
        tuple((len(group), length) for group, length in zip(groups, lengths, strict=True)),
        np.concatenate(slices) if slices else np.zeros(0, np.int32),
        np.flatnonzero((ids == image_pad) & (branches != _PADDING)).astype(np.int32),
        wanted,
        weights[wanted],
        ids[wanted],
        owners[wanted] * BRANCHES + branches[wanted],
        part_of[wanted],
    )


# ---- forward -------------------------------------------------------------------------------------------------------

# Keys, queries and values of the tokens of a layer, each ``(tokens, heads, head_dim)``, to what they attend to: ``(tokens, width)``.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def _norm(module: nn.Module, hidden: Tensor) -> Tensor:
    weight: Any = module.weight
    return functional.rms_norm(hidden, (hidden.shape[-1],), weight, _EPSILON)


def _rope(language: nn.Module, places: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of interleaved M-RoPE for positions ``(3, tokens)``; shape ``(tokens, 1, head_dim)``.

    Elementwise in single precision: as a matrix product on a GPU's tensor cores, angles at far positions would be off.
    """
    config = language.config
    pairs, parameters = config.head_dim // 2, config.rope_parameters
    axis = torch.zeros(pairs, dtype=torch.long)  # of each pair: time, row, column
    for number, section in enumerate(parameters["mrope_section"][1:], start=1):
        axis[number : 3 * section : 3] = number
    speeds = parameters["rope_theta"] ** (-torch.arange(pairs, device=places.device) / pairs)
    angles = (places.float()[axis.to(places.device)].T * speeds).repeat(1, 2)[:, None]
    return angles.cos(), angles.sin()


def trunk(language: nn.Module, hidden: Tensor, places: Tensor, attend: Attend, *, layers: int | None = None) -> Tensor:
    """The layers of the language model on a row of tokens.

    Args:
        hidden: embeddings, ``(tokens, width)``.
        places: M-RoPE positions, ``(3, tokens)``.
        layers: stop after so many, without the last norm.

    Returns:
        ``(tokens, width)``.
    """
    size = language.config.head_dim
    cos, sin = _rope(language, places)
    for number, layer in enumerate(language.layers[:layers]):
        attention = layer.self_attn
        normed = _norm(layer.input_layernorm, hidden)
        query = rotate(_norm(attention.q_norm, attention.q_proj(normed).unflatten(-1, (-1, size))), cos, sin)
        key = rotate(_norm(attention.k_norm, attention.k_proj(normed).unflatten(-1, (-1, size))), cos, sin)
        value = attention.v_proj(normed).unflatten(-1, (-1, size))
        hidden = hidden + attention.o_proj(attend(number, query, key, value))
        hidden = hidden + layer.mlp(_norm(layer.post_attention_layernorm, hidden))
    return _norm(language.norm, hidden) if layers is None else hidden


def _biases(branches: Tensor, blocks: Sequence[tuple[int, int]]) -> list[Tensor]:
    """What is added to the attention scores of each block, ``(rows, 1, length, length)``: minus infinity where a token may not look."""
    result = []
    at = 0
    for rows, length in blocks:
        own = branches[at : at + rows * length].view(rows, length)
        at += rows * length
        seen = (own[:, None, :] == 0) | (own[:, None, :] == own[:, :, None])
        allowed = seen & torch.ones(length, length, dtype=torch.bool, device=own.device).tril()
        result.append(torch.zeros(allowed.shape, device=own.device).masked_fill_(~allowed, -torch.inf)[:, None])
    return result


def _attend_blocks(branches: Tensor, blocks: Sequence[tuple[int, int]]) -> Attend:
    """Attention block by block, in single precision."""
    biases = _biases(branches, blocks)
    sizes = [rows * length for rows, length in blocks]

    def attend(_: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        pieces = []
        with torch.autocast(query.device.type, enabled=False):
            split = [tensor.float().split(sizes) for tensor in (query, key, value)]
            for number, (rows, length) in enumerate(blocks):
                q, k, v = (tensor[number].unflatten(0, (rows, length)).transpose(1, 2) for tensor in split)
                mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=biases[number])
                pieces.append(mixed.transpose(1, 2).flatten(2).flatten(0, 1))
            return torch.cat(pieces)

    return attend


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where a reply token is to be predicted, over all samples of a batch.

    Attributes:
        logits: ``(n, vocabulary)``.
        targets, weights: ``(n,)``; token ids and loss weights.
        replies, parts: ``(n,)``; of :class:`Batch`.
    """

    logits: Tensor
    targets: Tensor
    weights: Tensor
    replies: Tensor
    parts: Tensor


def hidden_states(model: Qwen3VLForConditionalGeneration, batch: Batch, table: Tensor | None, *, layers: int | None = None) -> Tensor:
    """The hidden state of every token of a batch, ``(tokens, width)``.

    Args:
        table: embeddings of slices, ``(slices, 9, width)``; ``None`` where no sample shows any.
        layers: after so many layers; all of them and the last norm by default.
    """
    language = model.model.language_model
    weight = language.embed_tokens.weight

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(weight.device, non_blocking=True)

    embedded = language.embed_tokens(tensor(batch.ids))
    if len(batch.slices):
        assert table is not None
        shown = table[tensor(batch.slices)].flatten(0, 1).to(embedded.dtype)
        embedded = embedded.index_copy(0, tensor(batch.seen), shown)
    attend = _attend_blocks(tensor(batch.branches), batch.blocks)
    return trunk(language, embedded, tensor(batch.places), attend, layers=layers)


def forward(model: Qwen3VLForConditionalGeneration, batch: Batch, table: Tensor | None) -> Prediction:
    """Predict the reply tokens of a batch."""
    hidden = hidden_states(model, batch, table)
    device = hidden.device
    wanted, targets, replies, parts = (
        torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)
        for array in (batch.wanted, batch.targets, batch.replies, batch.parts)
    )
    logits = functional.linear(hidden[wanted - 1], model.model.language_model.embed_tokens.weight)
    return Prediction(logits.float(), targets, torch.from_numpy(batch.weights).to(device), replies, parts)


# ---- decoding ------------------------------------------------------------------------------------------------------


class Cache:
    """Keys and values of some sequences, for decoding them side by side.

    Args:
        rows: sequences.
        length: most tokens of one.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, rows: int, length: int) -> None:
        config = model.config.text_config
        length = -(-length // _ALIGNED) * _ALIGNED
        weight = model.model.language_model.embed_tokens.weight
        shape = (config.num_hidden_layers, rows, length, config.num_key_value_heads, config.head_dim)
        self._model = model
        self._keys, self._values = (torch.zeros(shape, device=weight.device, dtype=weight.dtype) for _ in range(2))
        self.length = length

    @torch.no_grad()
    def extend(self, embedded: Tensor, places: Tensor, starts: Tensor, reach: int) -> Tensor:
        """Run some new tokens of every sequence, and keep them. Tokens that fill a row up may follow: later ones take their place.

        Args:
            embedded: ``(rows, new, width)``.
            places: M-RoPE positions ``(3, rows, new)``.
            starts: ``(rows,)``; how many tokens each sequence has already.
            reach: tokens of the longest sequence afterwards.

        Returns:
            Hidden states after the last norm, ``(rows, new, width)``.
        """
        rows, new, _ = embedded.shape
        reach = min(-(-reach // _ALIGNED) * _ALIGNED, self.length)
        at = (starts[:, None] + torch.arange(new, device=starts.device)).clamp(max=self.length - 1)
        row = torch.arange(rows, device=starts.device)[:, None]
        allowed = torch.arange(reach, device=starts.device) <= at[..., None]
        bias = torch.zeros(allowed.shape, device=starts.device).masked_fill_(~allowed, -torch.inf)[:, None]

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self._keys[number], self._values[number]
            keys[row, at], values[row, at] = key.unflatten(0, (rows, new)), value.unflatten(0, (rows, new))
            q = query.unflatten(0, (rows, new)).transpose(1, 2)
            k, v = (tensor[:, :reach].transpose(1, 2) for tensor in (keys, values))
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            return mixed.transpose(1, 2).flatten(2).flatten(0, 1)

        hidden = trunk(self._model.model.language_model, embedded.flatten(0, 1), places.flatten(1), attend)
        return hidden.unflatten(0, (rows, new))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep some of the sequences, in order."""
        chosen = torch.tensor(rows, device=self._keys.device)
        self._keys, self._values = self._keys[:, chosen], self._values[:, chosen]
