"""Prompts and replies as tensors for ``transformers``' Qwen3-VL, laid out token for token as ``sage`` asks llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sage_cli.model.base import Prompt
from sage_cli.model.qwen import QwenTemplate, VisionBlock
from training.model import IMAGE_PAD, MERGE, PATCH, patches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

END: Final = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and a reply.

    Attributes:
        ids: tokens of both, ``(n,)``; the reply's are the last ones.
        prompt: how many are the prompt's.
        pixels, grid: patches of all slices, ``(patches, 1536)``, and rows and columns of each, ``(slices, 3)``; ``None`` without frames.
    """

    ids: Tensor
    prompt: int
    pixels: Tensor | None
    grid: Tensor | None


class RowEncoder:
    """Makes rows with a model's own tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.image_pad = self._control(IMAGE_PAD)
        self._end = self._control(END)
        self._template = QwenTemplate("qwen3-vl", tokenize=self._plain, control=self._control, merge_pixels=PATCH * MERGE)

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _control(self, text: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(text))

    def save(self, folder: Path) -> None:
        """Write the tokenizer into a checkpoint folder."""
        self._tokenizer.save_pretrained(folder)

    def row(self, prompt: Prompt, reply: str) -> Row:
        """One row; the reply's end is its last token."""
        ids: list[int] = []
        pieces: list[Tensor] = []
        grids: list[list[int]] = []
        for item in self._template.render(prompt):
            if not isinstance(item, VisionBlock):
                ids.append(item)
                continue
            ids += [self.image_pad] * item.cells
            for part in item.slices:
                pair = np.stack([part.frames[0].image, part.frames[-1].image])
                pieces.append(patches(pair[None])[0])
                grids.append([1, pair.shape[1] // PATCH, pair.shape[2] // PATCH])
        answer = [*self._plain(reply), self._end]
        pixels = torch.cat(pieces) if pieces else None
        return Row(torch.tensor(ids + answer), len(ids), pixels, torch.tensor(grids) if grids else None)


def token_logits(model: Qwen3VLForConditionalGeneration, row: Row, image_pad: int, first: int) -> tuple[Tensor, Tensor]:
    """Logits and targets of a row's tokens from ``first`` on, ``(n, vocabulary)`` and ``(n,)``."""
    device = next(model.parameters()).device
    ids = row.ids.to(device)
    given: dict[str, Any] = {"input_ids": ids[None], "mm_token_type_ids": (ids == image_pad).long()[None]}
    if row.pixels is not None and row.grid is not None:
        given |= {"pixel_values": row.pixels.to(device), "image_grid_thw": row.grid.to(device)}
    logits = model(**given, logits_to_keep=len(ids) - first + 1).logits[0, :-1]
    return logits.float(), ids[first:]


def row_loss(model: Qwen3VLForConditionalGeneration, row: Row, image_pad: int, *, prompt_too: bool) -> Tensor:
    """Cross entropy of a row's tokens; image pads are nobody's target."""
    logits, targets = token_logits(model, row, image_pad, 1 if prompt_too else row.prompt)
    return functional.cross_entropy(logits, targets.masked_fill(targets == image_pad, -100))


def reply_log_probabilities(model: Qwen3VLForConditionalGeneration, row: Row, image_pad: int, temperature: float) -> Tensor:
    """Of every token of the reply, ``(n,)``."""
    logits, targets = token_logits(model, row, image_pad, row.prompt)
    return (logits / temperature).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
