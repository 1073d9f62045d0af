from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sage_cli.video import Video
from sage_cli.video.media import Orientation
from sage_cli.video.reader import picture

SHADES = np.array([(255, 255, 255), (230, 200, 30), (30, 200, 30), (200, 30, 30), (30, 30, 200), (128, 128, 128)], np.uint8)
SIZE = (48 * len(SHADES), 48)
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087
WHITE = 203.0  # cd/m2 of HDR's reference white: ITU-R BT.2408


def pq(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100, table 4."""
    power = (light * WHITE / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100, table 5; reference white is 75 % of the signal."""
    scene = light * 0.265
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)


def bars(path: Path, transfer: ColorTrc, curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], *, tagged: bool = True) -> Path:
    """Bars of the shades on a screen, as an HDR camera stores them: 10 bits, BT.2020."""
    signal = SHADES / 255
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    red, green, blue = curve(light @ TO_BT2020.T).T
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = [64 + 876 * luma, 512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746]
    frame = av.VideoFrame(*SIZE, "yuv444p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        row = np.zeros(plane.line_size // 2, np.uint16)
        row[: SIZE[0]] = np.repeat(np.round(values).astype(np.uint16), SIZE[0] // len(SHADES))
        plane.update(np.tile(row, SIZE[1]).tobytes())
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=5, options={"qp": "0"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv444p10le"
        context = stream.codec_context
        context.color_trc = transfer
        if tagged:
            context.colorspace, context.color_primaries, context.color_range = 9, ColorPrimaries.BT2020, ColorRange.MPEG
        for number in range(5):
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def colors(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The shade in the middle of each bar."""
    step = image.shape[1] // len(SHADES)
    return image[image.shape[0] // 2, step // 2 :: step].astype(np.int64)


@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "transfer alone"])
@pytest.mark.parametrize(("transfer", "curve"), [(ColorTrc.SMPTE2084, pq), (ColorTrc.ARIB_STD_B67, hlg)], ids=["PQ", "HLG"])
def test_what_phones_film_has_its_colors(
    transfer: ColorTrc, curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], tagged: bool, tmp_path: Path
) -> None:
    video = Video(bars(tmp_path / "hdr.mp4", transfer, curve, tagged=tagged))
    clip = Video(video.clip(0, 0.6, tmp_path / "clip.mp4"))
    for shown in video, clip:
        for size in (SIZE, (SIZE[0] // 2, SIZE[1] // 2)):
            image = next(shown.frames([0.3], size)).image
            assert image.shape[1::-1] == size
            assert np.abs(colors(image) - SHADES).max() <= 20
            assert np.abs(colors(image) - SHADES).mean() <= 6


def test_clips_say_what_their_colors_are(silent_path: Path, tmp_path: Path) -> None:
    """Players guess by the height where a file says nothing, and high definition comes out wrong."""
    with av.open(str(Video(silent_path).clip(0, 0.2, tmp_path / "clip.mp4"))) as container:
        frame = next(container.decode(video=0))
    said = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
    assert said == (Colorspace.ITU709, ColorPrimaries.BT709, ColorTrc.BT709, ColorRange.MPEG)


@pytest.mark.parametrize("matrix", [8, 10, 14], ids=["YCgCo", "constant luminance", "ICtCp"])
@pytest.mark.parametrize("transfer", [ColorTrc.BT709, ColorTrc.SMPTE2084], ids=["SDR", "HDR"])
def test_a_matrix_that_swscale_does_not_know_is_no_failure(matrix: int, transfer: ColorTrc) -> None:
    frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 200, np.uint8), format="rgb24").reformat(format="yuv420p")
    frame.colorspace, frame.color_trc, frame.pts = matrix, transfer, 7
    assert picture(frame, Orientation(), (24, 16)).shape == (16, 24, 3)
    assert frame.pts == 7
