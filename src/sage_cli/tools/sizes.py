"""How large a model sees frames: in the first look, in windows and clips, and as stills."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from sage_cli.model.base import ChatModel
from sage_cli.prompts import FrameStyle
from sage_cli.video import Frame

Size: TypeAlias = tuple[int, int]  # width and height in pixels
FrameSize: TypeAlias = Literal["reference", "paper"]

_STEPS: Final = 64  # between the smallest and the largest size that is tried


class FrameSizes:
    """The sizes of a video's frames for a model.

    Args:
        video: display size of the video; ``(0, 0)`` without a picture.
        style: of the model's family.
        kind: which of its sizes the first look has.
        frames: maximum frames of the first look.
        tokens: maximum vision tokens per frame or frame pair; then all frames have one size, whatever the style.

    Attributes:
        first: of the first look, and of windows and clips where the style does not share pixels.
    """

    def __init__(self, model: ChatModel, video: Size, style: FrameStyle, *, kind: FrameSize, frames: int, tokens: int | None) -> None:
        self._model, self._video, self._style, self._frames, self._tokens = model, video, style, frames, tokens
        self.first = self._size(style.paper if kind == "paper" else style.reference)

    def clip(self, count: int, fits: Callable[[Size], bool]) -> Size:
        """Of the frames of a window or clip, which a model sees in pairs.

        Args:
            count: of the frames.
            fits: whether the context holds frames of a size.
        """
        return self.still(-(-count // 2), fits) if self._style.shared else self.first

    def still(self, count: int, fits: Callable[[Size], bool] = lambda size: True) -> Size:
        """Of frames that are looked at one by one: as large as the style and the context allow, down to the paper's size; the arguments are
        those of :meth:`clip`."""
        style = self._style
        if self._tokens or style.still is None:
            return self.first
        least, most = style.still
        floor = min(most, style.paper[1]) if style.paper else most
        pixels = most
        if style.shared:
            # Few large frames cost as much as the many of the first look, which the user limits, and one may always be as large as any.
            budget = max(self.first[0] * self.first[1] * self._frames // 2, most)
            pixels = max(floor, min(most, budget // max(1, count)))

        def size(step: int) -> Size:
            return self._size((least, pixels - (pixels - floor) * step // _STEPS))

        if floor == pixels:
            return size(0)
        return size(bisect.bisect_left(range(_STEPS), True, key=lambda step: fits(size(step))))

    def _size(self, pixels: tuple[int, int] | None) -> Size:
        if not all(self._video):
            return 0, 0
        return self._model.frame_size(*self._video, self._tokens, None if self._tokens else pixels)


def blank_frames(times: Sequence[float], size: Size) -> list[Frame]:
    """Frames in place of those at these times, to count the tokens of a prompt before anything is decoded."""
    pixels = np.broadcast_to(np.uint8(0), (size[1], size[0], 3))
    return [Frame(at, pixels, f"blank:{size[0]}x{size[1]}") for at in times]
