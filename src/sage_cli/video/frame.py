"""One video frame and what identifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_VERSION: Final = 6  # increases when a change of the code changes which frame is shown at a time, or its pixels


class Frame:
    """A frame as a model sees it. Its pixels may not be decoded yet: results computed from them earlier are found by the key alone.

    Attributes:
        time: presentation time in seconds, counted from the start of the video or of a clip of it; see :meth:`at`.
        width, height: of the image, in pixels.
        key: identifies the pixels: the video's fingerprint, the presentation time, the size and what decodes and scales
            them. Two frames with the same key have the same image, so results computed from one are valid for the other.
    """

    __slots__ = ("_image", "_load", "height", "key", "time", "width")

    def __init__(self, time: float, image: NDArray[np.uint8], key: str) -> None:
        self.time, self.key = time, key
        self.height, self.width = int(image.shape[0]), int(image.shape[1])
        self._image: NDArray[np.uint8] | None = image
        self._load: Callable[[], NDArray[np.uint8]] | None = None

    @classmethod
    def undecoded(cls, time: float, size: tuple[int, int], key: str, load: Callable[[], NDArray[np.uint8]]) -> Frame:
        """A frame whose image is loaded on first use.

        Args:
            size: ``(width, height)`` of the image that ``load`` returns.
        """
        frame = cls.__new__(cls)
        frame.time, frame.key = time, key
        frame.width, frame.height = size
        frame._image, frame._load = None, load
        return frame

    def at(self, time: float) -> Frame:
        """The same frame under another time, as that of a clip that begins later than the video."""
        return Frame.undecoded(time, (self.width, self.height), self.key, lambda: self.image)

    @property
    def media(self) -> str:
        """The fingerprint of its video."""
        return self.key.partition("@")[0]

    @property
    def source_time(self) -> float:
        """Presentation time in its video, in seconds, wherever ``time`` counts from."""
        return float(self.key.partition("@")[2].partition(":")[0])

    @property
    def image(self) -> NDArray[np.uint8]:
        """RGB, shape ``(height, width, 3)``, ``uint8``, upright and with square pixels.

        Raises:
            VideoError: the frame had to be decoded, which is no longer possible.
        """
        if self._image is None:
            assert self._load is not None
            self._image, self._load = self._load(), None
        return self._image

    def jpeg(self, quality: int) -> bytes:
        """The image as a JPEG file."""
        import cv2

        return cv2.imencode(".jpg", cv2.cvtColor(self.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def frame_key(media: str, time: float, size: tuple[int, int]) -> str:
    """The key of a frame of the video with this fingerprint, at a presentation time and ``(width, height)``."""
    return f"{media}@{time:.6f}:{size[0]}x{size[1]}:{pixel_version()}"


@cache
def pixel_version() -> str:
    """Identifies what makes frames of files: the versions of FFmpeg, PyAV and OpenCV, and of our own code."""
    import av  # these take long to import, and who has a frame has imported them
    import cv2

    made_by = (_VERSION, av.__version__, sorted(av.library_versions.items()), cv2.__version__)
    return hashlib.blake2b(repr(made_by).encode(), digest_size=4).hexdigest()
