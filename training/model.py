"""The nano SAGE-MM: Qwen3-VL's architecture in a few million parameters, its weights, and its vision encoder run on batches of slices.

``transformers`` holds the weights; its forward attends image by image. Here all slices go through the vision encoder as one batch, and
:mod:`training.language` runs the language model. ``tests/training`` holds both to ``transformers``' own forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sage_cli.errors import SageError

if TYPE_CHECKING:  # imported where needed: it takes seconds, and processes that only write samples do without
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

PATCH: Final = 16
MERGE: Final = 2
GRID: Final = 6  # patches a side: 96 pixels
SLICE_TOKENS: Final = (GRID // MERGE) ** 2
IMAGE_PAD: Final = "<|image_pad|>"
VISION_RMS: Final = 0.02  # root mean square of the encoder's embeddings after the warm-up: that of fresh text embeddings
VISION_MARK: Final = -1  # a component of the hidden state that is nonzero in vision tokens alone
CONTROL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", IMAGE_PAD, "<|video_pad|>")


def nano_config(vocabulary: int, control: dict[str, int]) -> Qwen3VLConfig:
    """The shape of the nano model. ``control`` gives the ids of :data:`CONTROL`."""
    from transformers import Qwen3VLConfig

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
    from transformers import Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration(nano_config(vocabulary, control))
    for merger in model.model.visual.deepstack_merger_list:
        nn.init.zeros_(merger.linear_fc2.weight)
    return model


# ---- vision --------------------------------------------------------------------------------------------------------


def patches(frames: NDArray[np.uint8] | Tensor) -> Tensor:
    """Frame pairs, shape ``(slices, 2, height, width, 3)``, as the encoder's patches ``(slices, patches, 1536)``: merge blocks of 2x2
    patches in a row. Sides are multiples of 32 pixels."""
    n, _, height, width, _ = frames.shape
    whole = frames if isinstance(frames, Tensor) else torch.from_numpy(np.ascontiguousarray(frames))
    pixels = whole.float().div_(127.5).sub_(1.0)
    block = PATCH * MERGE
    blocks = pixels.view(n, 2, height // block, MERGE, PATCH, width // block, MERGE, PATCH, 3)
    return blocks.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(n, (height // PATCH) * (width // PATCH), -1)


def _patch_places() -> Tensor:
    """Row and column of each patch in the order of :func:`patches`, shape ``(2, 36)``."""
    places = torch.arange(GRID * GRID).view(GRID // MERGE, MERGE, GRID // MERGE, MERGE).permute(0, 2, 1, 3).reshape(-1)
    return torch.stack([places // GRID, places % GRID])


_PLACES: Final = _patch_places()


def rotate(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding; a head's first half and its second make the pairs."""
    first, second = tensor.chunk(2, dim=-1)
    return tensor * cos + torch.cat([-second, first], dim=-1) * sin


def _axial_rope(places: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines for rows and columns ``(2, n)``, half of a head's pairs each; shape ``(n, 1, size)``.

    Elementwise in single precision: as a matrix product on a GPU's tensor cores, angles would be off.
    """
    speeds = 10_000.0 ** (-torch.arange(0, size // 2, 2, device=places.device) / (size // 2))
    angles = (places[..., None].float() * speeds).transpose(0, 1).flatten(1).repeat(1, 2)[:, None]
    return angles.cos(), angles.sin()


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
    places = _PLACES.to(hidden.device)
    hidden = hidden + visual.pos_embed(places[0] * GRID + places[1])
    cos, sin = _axial_rope(places, visual.blocks[0].attn.head_dim)
    deepstack = []
    for index, block in enumerate(visual.blocks):
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden)).view(n, GRID * GRID, 3, attention.num_heads, attention.head_dim)
        query, key, value = qkv.unbind(2)
        query, key = rotate(query.float(), cos, sin), rotate(key.float(), cos, sin)
        value = value.float()
        mixed = functional.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        hidden = hidden + attention.proj(mixed.transpose(1, 2).reshape(n, GRID * GRID, -1))
        hidden = hidden + block.mlp(block.norm2(hidden))
        if index in visual.deepstack_visual_indexes and deepstack_too:
            merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
            deepstack.append(merger(hidden).view(n, SLICE_TOKENS, -1))
    return visual.merger(hidden).view(n, SLICE_TOKENS, -1), deepstack


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def save(model: nn.Module, path: Path) -> None:
    """Save the weights in one file, written beside and renamed: a reader never sees half a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(model.state_dict(), path, ".part")


def keep(path: Path, step: int, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Save what a stage needs to go on from a step, beside its result: :func:`resume` reads it."""
    _write({"step": step, "model": model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}, path, ".tmp")


def _write(state: Any, path: Path, suffix: str) -> None:
    new = path.with_suffix(suffix)
    try:
        torch.save(state, new)
    except RuntimeError as error:  # of torch's writer, on a full disk
        new.unlink(missing_ok=True)
        raise SageError(
            f"{path} cannot be written: {str(error).splitlines()[0]}; free some space, and run the same command again"
        ) from error
    new.replace(path)


def resume(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Load what :func:`keep` saved, if there is such a file. Returns its step; 0 for none.

    Raises:
        SageError: it is damaged.
    """
    if not path.exists():
        return 0
    state = _load(path)
    model.load_state_dict(state["model"])
    for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    return int(state["step"])


def kept_step(path: Path) -> int:
    """The step of a file that :func:`keep` wrote; 0 where there is none."""
    return int(_load(path)["step"]) if path.exists() else 0


def _load(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu")
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise SageError(f"{path} is damaged; delete it, and its stage begins anew") from error
    return state
