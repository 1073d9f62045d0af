"""Heads written into a trained model: one that finds among the slices what a text has just named, and others that know its time.

Gradients find this circuit late or never, for each of its parts is useless without the others; and a model without it answers questions
about colours and shapes by what is there at all, which says nothing of when. So its parts are read off the model as it is, by linear
regression of the hidden states, and training goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration

from training.model import IMAGE_PAD, SLICE_TOKENS, VISION_MARK, Packed, forward, look_back
from training.tokens import Encoder
from training.world import SHAPES, Thing

_STAMPING: Final = (4, 5)  # heads of the first layer that little depends on
_BACK_TO_SECONDS: Final = (6, 7)  # from a slice to the digits in "<113.5 seconds><|vision_start|>"
LAYER: Final = 1
HEAD: Final = 5  # one that little depends on
_RIDGE: Final = 1e-2


def _regress(inputs: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """The matrix that comes closest, ``(wanted, inputs)``."""
    weighted = inputs * weights[:, None]
    return torch.linalg.solve(weighted.T @ inputs + _RIDGE * len(inputs) * torch.eye(inputs.shape[1]), weighted.T @ wanted).T


@torch.no_grad()
def lay_stamps(language: nn.Module, digits: Sequence[int], loudness: float) -> None:
    """Lay two heads into the first layer by which every vision token knows the seconds that stand before its slice, ones and tens: to say
    when something is seen, a later layer has only to find it. Text hears next to nothing: the mean of all digits before it.

    Args:
        digits: token ids.
        loudness: root mean square of what they add; as much as vision tokens have by then, or it drowns.
    """
    size, width = language.config.head_dim, language.config.hidden_size
    attention = language.layers[0].self_attn
    table = language.embed_tokens.weight
    table[:, VISION_MARK] = 0
    wanted = torch.zeros(len(table), len(digits))  # what tells a digit from all else
    wanted[digits, range(len(digits))] = 1
    weights = torch.ones(len(table))
    weights[digits] = 100
    told_apart = _regress(language.layers[0].input_layernorm(table), wanted, weights)
    for head, steps in zip(_STAMPING, _BACK_TO_SECONDS, strict=True):
        look_back(language, head, steps, VISION_MARK)
        here = slice(head * size, (head + 1) * size)
        attention.v_proj.weight[here] = 0
        attention.v_proj.weight[here][: len(digits)] = told_apart
        attention.o_proj.weight[:, here] = loudness * math.sqrt(width) * nn.init.orthogonal_(torch.empty(size, width)).T


def hold_stamps(language: nn.Module) -> Callable[[], None]:
    """What puts back, after a step of training, where the heads of :func:`lay_stamps` look."""
    size, attention = language.config.head_dim, language.layers[0].self_attn
    rows = [row for head in _STAMPING for row in range(head * size, (head + 1) * size)]
    held = [
        (matrix, matrix[rows].detach().clone()) for matrix in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
    ]

    @torch.no_grad()
    def put_back() -> None:
        for matrix, value in held:
            matrix[rows] = value
        language.embed_tokens.weight[:, VISION_MARK] = 0

    return put_back


@torch.no_grad()
def lay_finding(model: Qwen3VLForConditionalGeneration, encoder: Encoder, samples: Sequence[tuple[Packed, list[Thing], list[int]]]) -> None:
    """Write the head.

    Args:
        samples: slices, the thing that each shows, the second that stands before each, and text that names the things.
    """
    language = model.model.language_model
    layer, size = language.layers[LAYER], language.config.head_dim
    seen: list[Tensor] = []
    residual: list[Tensor] = []

    def listen(_: nn.Module, given: tuple[Tensor], normed: Tensor) -> None:
        residual.append(given[0])
        seen.append(normed)

    hook = layer.input_layernorm.register_forward_hook(listen)
    forward(model, [packed for packed, _, _ in samples], encoder.control[IMAGE_PAD])
    hook.remove()
    hidden = seen[0].view(-1, seen[0].shape[-1])
    loud = float(residual[0].square().mean().sqrt())

    ids = torch.tensor([token for packed, _, _ in samples for token in packed.ids])
    vision = ids == encoder.control[IMAGE_PAD]
    shapes = torch.tensor([encoder.plain(f" {shape}")[0] for shape in SHAPES])
    nothing = len(SHAPES)
    named = torch.full_like(ids, nothing)
    for number, shape in enumerate(shapes):
        named[1:][ids[:-1] == shape] = number
    shown = torch.full_like(ids, nothing)
    shown[vision] = torch.tensor([SHAPES.index(thing.shape) for _, things, _ in samples for thing in things]).repeat_interleave(
        SLICE_TOKENS
    )
    seconds = torch.tensor([second for _, _, times in samples for second in times]).repeat_interleave(SLICE_TOKENS)

    def balanced(classes: Tensor) -> Tensor:
        return len(classes) / (classes.bincount(minlength=nothing + 1)[classes] * (nothing + 1))

    rows = slice(HEAD * size, (HEAD + 1) * size)
    pairs = size // 2
    slow = torch.arange(pairs - nothing - 1, pairs)  # pairs of RoPE that hardly turn
    attention = layer.self_attn
    for matrix, classes in ((attention.q_proj.weight, named), (attention.k_proj.weight, shown)):
        matrix[rows] = 0
        matrix[rows.start + slow] = _regress(hidden, functional.one_hot(classes, nothing + 1).float(), balanced(classes))
    digits = torch.zeros(len(ids), 20)
    digits[vision] = torch.cat([functional.one_hot(seconds // 10, 10), functional.one_hot(seconds % 10, 10)], dim=1).float()
    attention.v_proj.weight[rows] = 0
    attention.v_proj.weight[rows.start : rows.start + 20] = _regress(hidden, digits, torch.where(vision, 5.0, 1.0))
    width = hidden.shape[1]
    attention.o_proj.weight[:, rows] = loud * (width / 4) ** 0.5 * nn.init.orthogonal_(torch.empty(size, width)).T
