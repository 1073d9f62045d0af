"""Prompts and replies as tensors for ``transformers``' Qwen3-VL, laid out token for token as ``sage`` asks llama.cpp."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sage_cli.model.base import Prompt
from sage_cli.model.qwen import QwenTemplate, VisionBlock
from training.model import IMAGE_PAD, PATCH, patches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

END: Final = "<|im_end|>"
_AROUND: Final = ("<|vision_start|>", "<|vision_end|>")
_NO_TARGET: Final = -100


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and a reply.

    Attributes:
        ids: tokens of both, ``(n,)``; the reply's are the last ones.
        prompt: how many are the prompt's.
        pads: which of them a patch of a frame takes the place of.
        labels: the same tokens as targets; those that stand for frames, and those around them, are nobody's.
        pixels, grid: patches of all slices, ``(patches, 1536)``, and rows and columns of each, ``(slices, 3)``; ``None`` without frames.
    """

    ids: Tensor
    prompt: int
    pads: Tensor
    labels: Tensor
    pixels: Tensor | None = None
    grid: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


# Beside weights and tokenizer: how servers and converters prepare frames and lay out prompts.
_OTHERS: Final = (
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
    *("chat_template.json", "chat_template.jinja", "generation_config.json"),
)


class RowEncoder:
    """Makes rows with a model's own tokenizer.

    Args:
        source: folder of the model, or its name on the hub.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
        self._tokenizer, self._source = tokenizer, source
        self.image_pad = self._control(IMAGE_PAD)
        self._visual = torch.tensor([self._control(text) for text in (IMAGE_PAD, *_AROUND)])
        self._end = self._control(END)
        self._template = QwenTemplate("qwen3-vl", tokenize=self._plain, control=self._control)

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _control(self, text: str) -> int:
        return int(self._tokenizer.convert_tokens_to_ids(text))

    def save(self, folder: Path) -> None:
        """Write all of the model that is not its weights into a checkpoint folder."""
        from transformers.utils.hub import cached_file

        self._tokenizer.save_pretrained(folder)
        for name in _OTHERS:
            found = cached_file(self._source, name, _raise_exceptions_for_missing_entries=False)
            if found is not None and Path(found).resolve() != (folder / name).resolve():
                shutil.copyfile(found, folder / name)

    def stand_in(self) -> Row:
        """The shortest row, for a pass whose result does not count."""
        return self._row([self._end] * 2, 1)

    def row(self, prompt: Prompt, reply: str, *, cut: bool = False) -> Row:
        """One row; the reply's end is its last token, unless it was cut."""
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
        answer = [*self._plain(reply), *([] if cut else [self._end])]
        pixels = torch.cat(pieces) if pieces else None
        return self._row(ids + answer, len(ids), pixels, torch.tensor(grids) if grids else None)

    def _row(self, tokens: list[int], prompt: int, *pictures: Tensor | None) -> Row:
        ids = torch.tensor(tokens)
        return Row(ids, prompt, ids == self.image_pad, ids.masked_fill(torch.isin(ids, self._visual), _NO_TARGET), *pictures)


def logits_of(model: Qwen3VLForConditionalGeneration, row: Row, first: int) -> Tensor:
    """Logits of a row's tokens from ``first`` on, ``(n, vocabulary)``."""
    device = next(model.parameters()).device
    given: dict[str, Any] = {"input_ids": row.ids.to(device)[None], "mm_token_type_ids": row.pads.long().to(device)[None]}
    if row.pixels is not None and row.grid is not None:
        given |= {"pixel_values": row.pixels.to(device), "image_grid_thw": row.grid.to(device)}
    logits: Tensor = model(**given, logits_to_keep=len(row) - first + 1, use_cache=False).logits
    return logits[0, :-1].float()


def row_loss(model: Qwen3VLForConditionalGeneration, row: Row, *, prompt_too: bool) -> Tensor:
    """Mean cross entropy of a row's tokens."""
    first = 1 if prompt_too else row.prompt
    logits = logits_of(model, row, first)
    return functional.cross_entropy(logits, row.labels[first:].to(logits.device), ignore_index=_NO_TARGET)


def reply_log_probabilities(model: Qwen3VLForConditionalGeneration, row: Row, temperature: float) -> Tensor:
    """Of every token of the reply, ``(n,)``."""
    logits = logits_of(model, row, row.prompt)
    return (logits / temperature).log_softmax(-1).gather(-1, row.ids[row.prompt :, None].to(logits.device))[:, 0]
