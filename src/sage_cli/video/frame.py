"""One decoded video frame and what identifies it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame as a model sees it.

    Attributes:
        time: presentation time in seconds, counted from the start of the video.
        image: RGB, shape ``(height, width, 3)``, ``uint8``, upright and with square pixels.
        key: identity of the pixels: the video's content id, the presentation time and the size. Two frames with
            the same key hold the same image, so whatever was computed from one serves the other.
    """

    time: float
    image: NDArray[np.uint8]
    key: str

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        return int(self.image.shape[0])
