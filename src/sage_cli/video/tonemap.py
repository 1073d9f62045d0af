"""High dynamic range to the range and colors of ordinary screens: what phones film in HLG is pale and gray where it is taken for BT.709.

A table of colors is computed here, and applied by FFmpeg's ``haldclut`` filter. Its ``scale`` filter can map tones, too, but computes a
table of its own for seconds, for every size of frames.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from threading import local
from typing import Final, cast

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, ColorTrc
from numpy.typing import NDArray

_TRANSFERS: Final = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG
_BT2020: Final = 9  # of a colorspace, as FFmpeg numbers them; PyAV 17 has no name for it
MATRICES: Final = (0, 1, 4, 5, 6, 7, 9)  # those that swscale knows

_LEVEL: Final = 6  # of the table: 36 steps for each of red, green and blue, in a picture of 216 by 216
_WHITE: Final = 203  # cd/m2 of a white page (ITU-R BT.2408); highlights are brighter
_HLG_WHITE: Final = 0.265  # and its share of the brightest light that a camera stores as HLG
_TO_BT709: Final = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # ITU-R BT.2407
_KNEE: Final = 0.75  # light above it is compressed, so that highlights keep their structure


def is_hdr(frame: VideoFrame) -> bool:
    return frame.color_trc in _TRANSFERS


def tone_mapped(frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """An HDR frame as RGB (``rgb24``) of this width and height, for a screen of BT.709 and sRGB."""
    space = frame.colorspace if frame.colorspace in MATRICES else _BT2020
    levels = frame.color_range or ColorRange.MPEG
    stamp = frame.pts
    mapper = _mappers.find(ColorTrc(frame.color_trc), frame.width, frame.height, frame.format.name, int(space), int(levels), size)
    mapper.frames += 1
    frame.colorspace, frame.color_range, frame.pts = space, levels, mapper.frames
    mapper.source.push(frame)
    frame.pts = stamp
    return cast(VideoFrame, mapper.sink.pull())


class _Mapper:
    """A filter graph, and the number of frames that went through it: their times, since it takes none that is earlier than the last."""

    def __init__(self, transfer: ColorTrc, width: int, height: int, pixels: str, space: int, levels: int, size: tuple[int, int]) -> None:
        self.frames = 0
        table = VideoFrame.from_ndarray(_table(transfer), format="rgb48le")
        table.pts = 0
        self._graph = graph = Graph()
        self.source = graph.add("buffer", f"video_size={width}x{height}:pix_fmt={pixels}:time_base=1/1:colorspace={space}:range={levels}")
        colors = graph.add("buffer", f"video_size={table.width}x{table.height}:pix_fmt=rgb48le:time_base=1/1")
        scale = graph.add("scale", f"{size[0]}:{size[1]}:flags={'area' if size[0] * size[1] < width * height else 'bicubic'}")
        rgb, small = graph.add("format", "rgb48le"), graph.add("format", "rgb24")
        look_up, self.sink = graph.add("haldclut", "clut=first"), graph.add("buffersink")
        for one, other in pairwise((self.source, scale, rgb, look_up, small, self.sink)):
            one.link_to(other)
        colors.link_to(look_up, 0, 1)
        graph.configure()
        colors.push(table)
        colors.push(None)


class _Mappers(local):
    """Those of a thread, a decoder's own: frames of several are mapped at once."""

    def __init__(self) -> None:
        self.find = lru_cache(maxsize=4)(_Mapper)


_mappers = _Mappers()


@lru_cache
def _table(transfer: ColorTrc) -> NDArray[np.uint16]:
    """The color for each color, as a Hald image of 16 bits: red changes fastest, blue slowest."""
    steps = np.linspace(0, 1, _LEVEL**2)
    signal = np.stack(np.meshgrid(steps, steps, steps, indexing="ij")[::-1], axis=-1)
    light = np.maximum((_hlg(signal) if transfer == ColorTrc.ARIB_STD_B67 else _pq(signal)) @ _TO_BT709.T, 0)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    room = 1 - _KNEE
    compressed = np.where(brightest <= _KNEE, brightest, 1 - room * np.exp((_KNEE - brightest) / room))
    light *= compressed / brightest
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1, sRGB
    return cast("NDArray[np.uint16]", np.round(encoded * 65535).astype(np.uint16).reshape(_LEVEL**3, _LEVEL**3, 3))


def _hlg(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of the scene, a white page being 1: the inverse of ITU-R BT.2100's table 5."""
    low, high = signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(signal <= 0.5, low, high) / _HLG_WHITE


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light of the screen, a white page being 1: ITU-R BT.2100's table 4."""
    power = signal ** (32 / 2523)
    light = np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return light ** (16384 / 2610) * (10000 / _WHITE)
