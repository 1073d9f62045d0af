"""Heads written into a model: gradients find these circuits late or never, for each of their parts is useless without the others.

:func:`lay_copying` writes them into fresh weights: tokens of text that know what stands some places before them, and heads that find by it
what to say again, or what comes before and after something in a list. Names, times and answers are copied in every reply.

:func:`lay_stamps` and :func:`lay_finding` write into weights that know from drills what words and slices are: heads by which slices know
their time, and one that finds among them what a text has just named, read off the model by linear regression of the hidden states. Without
them a model answers questions about colours and shapes by what is there at all, which says nothing of when.

Training goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.language import Packed, collate, hidden_states
from training.model import IMAGE_PAD, SLICE_TOKENS, VISION_MARK
from training.tokens import Encoder
from training.world import SHAPES, Thing

if TYPE_CHECKING:
    from transformers import Qwen3VLForConditionalGeneration

CONSTANT: Final = 0  # a part of the hidden state that is alike in all fresh tokens of text
# Heads of the first layer whose aim training would wear away (see `hold`): from any token of text ...
LOOKING_BACK: Final = {0: 1, 1: 2, 2: 4}  # ... as many places back
STAMPING: Final = {4: 6, 5: 7}  # ... and from a slice to the digits in "<113.5 seconds><|vision_start|>"
LAYER: Final = 1
HEAD: Final = 5  # one that little depends on
_RIDGE: Final = 1e-2


@torch.no_grad()
def lay_copying(language: nn.Module, comma: int, after: int, before: int, start: int) -> None:
    """Lay induction heads (Olsson et al., 2022) into fresh weights. Heads of the first layer tell every token what stood one, two and four
    places before it. Of the second layer's,

    - two look for a token that stood behind what stands here now, and say it again;
    - one looks for what stood two places behind the token before this one and behind a comma: in "blue circle, red star", asked "after
      circle is", it says "red";
    - one looks for the token before this one itself, two places behind a comma, and says what stood four places before it: asked "before
      star is", it says "blue".

    The last two rest at the start of the prompt unless "after" or "before" stands two places back.

    Args:
        comma, after, before, start: tokens; the last is the first of every prompt.
    """
    for layer in language.layers:  # every layer starts silent, so that what is laid in is heard
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    config = language.config
    size, pairs = config.head_dim, config.head_dim // 2
    # The parts of the hidden state, besides the constant. Of what is only matched, as much is told as slow pairs can match.
    told, told_four, told_two = slice(1, 1 + size), slice(1 + size, 1 + 2 * size), slice(1 + 2 * size, 1 + 2 * size + pairs)
    rest = slice(told_two.stop, None)
    embedding = language.embed_tokens.weight
    scale = float(embedding.std())
    embedding[:, CONSTANT] = 4 * scale
    embedding[:, told.start : told_two.stop] = 0

    def some_directions() -> Tensor:
        return nn.init.orthogonal_(torch.empty(size, config.hidden_size - rest.start))

    first, second = (language.layers[number].self_attn for number in (0, 1))
    for attention in (first, second):  # sharper than fresh weights are
        attention.q_norm.weight.fill_(2)
        attention.k_norm.weight.fill_(2)
    # A token as it is told, and the part of that which is matched.
    identity, matched = some_directions(), nn.init.orthogonal_(torch.empty(pairs, size))
    code = matched @ identity
    for (head, steps), (part, what) in zip(LOOKING_BACK.items(), [(told, identity), (told_two, code), (told_four, identity)], strict=True):
        look_back(language, head, steps, CONSTANT)
        here = slice(head * size, head * size + len(what))
        first.v_proj.weight[here, rest] = what
        first.o_proj.weight[part, here] = scale * torch.eye(len(what))

    # The same token, however far: the slowest pairs, which hardly turn.
    slow = torch.cat([torch.arange(pairs // 2, pairs), torch.arange(pairs + pairs // 2, size)])
    say, say_too = some_directions(), some_directions()
    heads = [  # what is looked for, among what, what is taken (each a part of the hidden state and what is read there), and how it is said
        ((rest, code), (told, matched), (rest, say), say),
        ((rest, code), (told, matched), (rest, say_too), say_too),
        ((told, matched), (told_two, torch.eye(pairs)), (rest, say), say),
        ((told, matched), (rest, code), (told_four, torch.eye(size)), identity),
    ]
    for head, (query, key, value, said) in enumerate(heads):
        top = head * size
        for matrix, (part, what), rows in (
            (second.q_proj.weight, query, slow),
            (second.k_proj.weight, key, slow),
            (second.v_proj.weight, value, torch.arange(size)),
        ):
            matrix[top : top + size] = 0
            matrix[top + rows, part] = what
        second.o_proj.weight[rest, top : top + size] = 2 * scale * said.T

    codes = functional.normalize(embedding[:, rest] @ code.T)  # of every token
    beside = pairs // 2 - 1  # turns hardly more than the slow pairs
    for head, form, part, what in ((2, after, told, identity), (3, before, told_two, code)):
        top = head * size
        second.q_proj.weight[top + beside, CONSTANT] = 1
        second.k_proj.weight[top + beside, part] = functional.normalize(what @ embedding[comma, rest], dim=0)
        second.q_proj.weight[top + slow, CONSTANT] += 2.6 * codes[start]  # louder than any match
        second.q_proj.weight[top + slow, told_two] -= 2.6 * torch.outer(codes[start], codes[form])


def look_back(language: nn.Module, head: int, steps: int, whoever: int) -> None:
    """Let a head of the first layer look some positions back, whatever stands there: with the fastest pairs of RoPE, turned by as much.
    Tokens do so whose hidden state is not zero at ``whoever``.
    """
    attention, size = language.layers[0].self_attn, language.config.head_dim
    pairs, theta = size // 2, language.config.rope_parameters["rope_theta"]
    energy, angle = torch.tensor([0.5, 0.3, 0.2]).sqrt(), steps * theta ** (-torch.arange(3) / pairs)
    first = head * size
    for matrix in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight):
        matrix[first : first + size] = 0
    attention.q_proj.weight[first : first + 3, whoever] = energy
    attention.k_proj.weight[first : first + 3, CONSTANT] = energy * angle.cos()
    attention.k_proj.weight[first + pairs : first + pairs + 3, CONSTANT] = energy * angle.sin()


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
    for head, steps in STAMPING.items():
        look_back(language, head, steps, VISION_MARK)
        here = slice(head * size, (head + 1) * size)
        attention.v_proj.weight[here] = 0
        attention.v_proj.weight[here][: len(digits)] = told_apart
        attention.o_proj.weight[:, here] = loudness * math.sqrt(width) * nn.init.orthogonal_(torch.empty(size, width)).T


def hold(language: nn.Module, heads: Iterable[int]) -> Callable[[], None]:
    """What puts back, after a step of training, where some heads of the first layer look and what they tell."""
    size, attention = language.config.head_dim, language.layers[0].self_attn
    every = [row for head in heads for row in range(head * size, (head + 1) * size)]
    rows = torch.tensor(every, device=language.embed_tokens.weight.device)
    held = [
        (matrix, matrix[rows].detach().clone()) for matrix in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
    ]

    @torch.no_grad()
    def put_back() -> None:
        for matrix, value in held:
            matrix.index_copy_(0, rows, value)
        language.embed_tokens.weight[:, VISION_MARK] = 0

    return put_back


@torch.no_grad()
def lay_finding(
    model: Qwen3VLForConditionalGeneration, encoder: Encoder, samples: Sequence[tuple[Packed, list[Thing], list[int]]], table: Tensor
) -> None:
    """Write the head. The model and the table of slice embeddings are on the CPU.

    Args:
        samples: slices, the thing that each shows, the second that stands before each, and text that names the things.
    """
    language = model.model.language_model
    layer, size = language.layers[LAYER], language.config.head_dim
    # Each sample is a block of its own, in the order given: the hidden states of all of them in a row.
    batches = [collate([[packed]], encoder.control[IMAGE_PAD], similar=1) for packed, _, _ in samples]
    residual = torch.cat([hidden_states(model, batch, table, layers=LAYER) for batch in batches])
    hidden = layer.input_layernorm(residual)
    loud = float(residual.square().mean().sqrt())

    ids = torch.from_numpy(np.concatenate([packed.ids for packed, _, _ in samples])).long()
    vision = ids == encoder.control[IMAGE_PAD]
    shapes = torch.tensor([encoder.word(f" {shape}") for shape in SHAPES])
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
