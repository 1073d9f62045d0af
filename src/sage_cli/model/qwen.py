"""How Qwen-VL models write a prompt down: the ChatML template, timestamps, and M-RoPE positions.

A prompt becomes a flat list of items, each a text token or a vision block. Items are what the KV cache is compared by. An item takes
*cells* of the KV cache (its tokens) and *positions* (how far the next item's position moves on); for a vision block the two differ.

Sources: Qwen3-VL and Qwen2.5-VL processors and their ``get_rope_index``; the golden files in ``tests/golden`` hold this module to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sage_cli.model.base import Frames, Message, Prompt, Text
from sage_cli.video.frame import Frame

Family: TypeAlias = Literal["qwen3-vl", "qwen2.5-vl"]

# Side in pixels of the square that becomes one vision token: patch size times spatial merge.
MERGE_PIXELS: Final[dict[Family, int]] = {"qwen3-vl": 32, "qwen2.5-vl": 28}
TEMPORAL_PATCH: Final = 2  # frames the vision encoder merges into one slice
_RUNS: Final = 1024  # pieces of text whose tokens are kept; a prompt has about one per slice
TOKENS_PER_SECOND: Final = 2  # Qwen2.5-VL's vision_config.tokens_per_second in every released size; absent from its GGUF
_DEFAULT_SYSTEM: Final = "You are a helpful assistant."  # Qwen2.5-VL's chat template begins with it where a prompt has no system turn


@dataclass(frozen=True, slots=True)
class Slice:
    """One input of the vision encoder: a merged frame pair, or a frame alone (then both frames are the same one)."""

    frames: tuple[Frame, ...]

    @property
    def key(self) -> str:
        return "+".join(frame.key for frame in self.frames)


@dataclass(frozen=True, eq=False)
class VisionBlock:
    """The content between ``<|vision_start|>`` and ``<|vision_end|>``.

    Attributes:
        slices: in time order; Qwen3-VL puts one in a block, Qwen2.5-VL all of a video.
        rows, columns: of the token grid of each slice.
        steps: temporal position of each slice, counted from the block's start.
    """

    slices: tuple[Slice, ...]
    rows: int
    columns: int
    steps: tuple[int, ...]

    @property
    def cells(self) -> int:
        return len(self.slices) * self.rows * self.columns

    @property
    def positions(self) -> int:
        return max(self.rows, self.columns, self.steps[-1] + 1)

    @cached_property
    def identity(self) -> tuple[object, ...]:
        return (tuple(part.key for part in self.slices), self.rows, self.columns, self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VisionBlock) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def slice_positions(self, index: int, start: int) -> NDArray[np.int32]:
        """M-RoPE positions of one slice's tokens, shape ``(4, rows * columns)``: time, height, width, unused."""
        rows, columns = np.divmod(np.arange(self.rows * self.columns, dtype=np.int32), self.columns)
        time = np.full_like(rows, self.steps[index])
        return np.stack([time + start, rows + start, columns + start, np.zeros_like(rows)]).astype(np.int32)


Item: TypeAlias = int | VisionBlock


def item_cells(item: Item) -> int:
    return 1 if isinstance(item, int) else item.cells


def item_positions(item: Item) -> int:
    return 1 if isinstance(item, int) else item.positions


# ---- rendering -----------------------------------------------------------------------------------------------------


class QwenTemplate:
    """Renders prompts for one model.

    Args:
        family: decides how video is laid out.
        tokenize: plain text to token ids; must not interpret control tokens.
        control: token id of a control token by its text, e.g. ``control("<|im_start|>")``.
    """

    def __init__(self, family: Family, *, tokenize: Callable[[str], list[int]], control: Callable[[str], int]) -> None:
        self._family = family
        self._tokenize = lru_cache(_RUNS)(tokenize)  # most of a prompt is rendered again and again: to count its tokens, and while it grows
        self._merge_pixels = MERGE_PIXELS[family]
        self._im_start = control("<|im_start|>")
        self._im_end = control("<|im_end|>")
        self._vision_start = control("<|vision_start|>")
        self._vision_end = control("<|vision_end|>")

    def render(self, prompt: Prompt) -> list[Item]:
        """The prompt, opened for the assistant's reply, as items in order."""
        items: list[Item] = []
        run: list[str] = []  # text tokenized in one go, as the reference does: tokens may span two pieces

        def flush() -> None:
            if run:
                items.extend(self._tokenize("".join(run)))
                run.clear()

        for piece in self._pieces(prompt):
            if isinstance(piece, str):
                run.append(piece)
            else:
                flush()
                items.append(piece)
        flush()
        return items

    def grid(self, frame: Frame) -> tuple[int, int]:
        """Rows and columns of the tokens of a slice."""
        return frame.height // self._merge_pixels, frame.width // self._merge_pixels

    def _pieces(self, prompt: Prompt) -> Iterator[str | Item]:
        if self._family == "qwen2.5-vl" and (not prompt or prompt[0].role != "system"):
            prompt = [Message("system", (Text(_DEFAULT_SYSTEM),)), *prompt]
        for message in prompt:
            yield self._im_start
            yield f"{message.role}\n"
            for part in message.parts:
                if isinstance(part, Text):
                    yield part.text
                else:
                    yield from self._frames(part)
            yield self._im_end
            yield "\n"
        yield self._im_start
        yield "assistant\n"

    def _frames(self, part: Frames) -> Iterator[str | Item]:
        if not part.frames:
            return
        slices = slices_of(part)
        rows, columns = self.grid(part.frames[0])
        if self._family == "qwen2.5-vl" and part.pairs:
            spacing = slices[-1].frames[0].time - slices[0].frames[0].time  # of first frames: the last slice may lack its second
            seconds_per_slice = spacing / (len(slices) - 1) if len(slices) > 1 else 1.0
            # Above 4 frames a second whole positions run out; llama.cpp masks slices that share one by row and column, so they may not.
            steps = tuple(int(i * max(1.0, seconds_per_slice * TOKENS_PER_SECOND)) for i in range(len(slices)))
            yield from (self._vision_start, VisionBlock(slices, rows, columns, steps), self._vision_end)
            return
        for merged in slices:
            if part.timed:
                yield f"<{sum(frame.time for frame in merged.frames) / len(merged.frames):.1f} seconds>"
            yield from (self._vision_start, VisionBlock((merged,), rows, columns, (0,)), self._vision_end)


def slices_of(part: Frames) -> tuple[Slice, ...]:
    """The frames as the vision encoder takes them."""
    step = TEMPORAL_PATCH if part.pairs else 1
    return tuple(Slice(part.frames[i : i + step]) for i in range(0, len(part.frames), step))
