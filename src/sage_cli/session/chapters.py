"""Where a video changes its subject: chapters from pictures and words, without a model.

Kernel temporal segmentation (Potapov, Douze, Harchaoui, Schmid: Category-specific video summarization, ECCV 2014): the cuts that leave the
least variance within the parts, as many as their gain outweighs their number. The features of a stretch of some seconds are the colours of
its keyframes and the words that are said around it. Each cut is then moved to the change of picture, or to the pause, that is nearest.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sage_cli.speech.segment import Segment
    from sage_cli.video import Frame, Sampling, Video

Features = NDArray[np.float32]

_UNITS: Final = 1200  # stretches that a video is divided into at most
_UNIT_S: Final = 2.0  # seconds of one at least
_SHORTEST_S: Final = 20.0  # seconds of a chapter at least
_MOST: Final = 60  # chapters
_PENALTY: Final = 1.0  # on each cut, as in the paper
_ALIKE_S: Final = 20.0  # seconds in which pictures and words hardly change: some shots, some sentences
_SPARSE_S: Final = 15.0  # mean distance of keyframes from which frames in between are decoded as well
_AROUND_S: Final = 15.0  # seconds before and after a moment whose words describe it
_BESIDE_S: Final = 60.0  # seconds of words on each side that are compared to place a cut
_STEP_S: Final = 0.5  # seconds between the frames that place a cut
_PICTURE: Final = (64, 36)
_BINS: Final = (8, 4, 4)  # of hue, saturation and value
_CUT: Final = 0.1  # squared distance of two pictures from which the picture changes
_WORDS: Final = 1024  # dimensions that words are hashed to

_WORD: Final = re.compile(r"\w{3,}|[^\W\d_a-z\u00df-\u02af]", re.IGNORECASE)


def find_chapters(
    video: Video, segments: Sequence[Segment], start: float, end: float
) -> Generator[tuple[int, int], None, list[tuple[float, float]]]:
    """Divide a part of a video into chapters.

    Args:
        segments: what is said in it; may be empty.
        start, end: the part, in seconds.

    Yields:
        How many frames of how many are read, now and then.

    Returns:
        Start and end of each chapter in seconds, without gaps.

    Raises:
        VideoError: the video cannot be read.
    """
    count = max(1, min(_UNITS, int((end - start) / _UNIT_S)))
    unit = (end - start) / count
    edges = start + unit * np.arange(count + 1)
    pictures = yield from _pictures(video, edges)
    words = _Words(segments)
    middles = edges[:-1] + unit / 2
    said = np.stack([words.between(middle - _AROUND_S, middle + _AROUND_S) for middle in middles])
    # What is seen and said within some seconds is alike: it counts as one observation, or every shot would be a chapter.
    kernel = (pictures @ pictures.T + said @ said.T) * min(1.0, unit / _ALIKE_S)
    cuts = []
    for index in change_points(kernel, max(1, round(_SHORTEST_S / unit)), _MOST - 1):
        cuts.append((yield from _placed(video, pictures, words, segments, index, edges)))
    times = [start, *(time for time in sorted(set(cuts)) if start + 1 < time < end - 1), end]
    return [*pairwise(times)]


def change_points(kernel: NDArray[np.floating], shortest: int, most: int) -> list[int]:
    """Indices at which new parts begin, ascending.

    Args:
        kernel: similarity of every two units, shape ``(n, n)``.
        shortest: units of a part at least; not 0.
        most: change points at most.
    """
    count = len(kernel)
    sums = np.zeros((count + 1, count + 1))
    sums[1:, 1:] = kernel.cumsum(0).cumsum(1)
    diagonal = np.concatenate([[0.0], np.diagonal(kernel).cumsum()])
    first, last = np.ogrid[: count + 1, : count + 1]
    length = np.maximum(last - first, 1)
    block = sums[last, last] - sums[first, last] - sums[last, first] + sums[first, first]
    scatter = np.where(last - first >= shortest, diagonal[last] - diagonal[first] - block / length, np.inf)
    costs, origins = [scatter[0]], []
    for _ in range(most):
        total = costs[-1][:, None] + scatter
        origins.append(total.argmin(0))
        costs.append(total.min(0))
    numbers = np.arange(1, most + 1)
    penalties = np.concatenate([[0.0], _PENALTY / 2 * numbers * (np.log(count / numbers) + 1)])
    best = int(np.argmin([cost[count] for cost in costs] + penalties))
    points, at = [], count
    for number in reversed(range(best)):
        at = int(origins[number][at])
        points.append(at)
    return points[::-1]


# ---- pictures ------------------------------------------------------------------------------------------------------


def _pictures(video: Video, edges: NDArray[np.floating]) -> Generator[tuple[int, int], None, Features]:
    """Mean colours of each unit, shape ``(units, bins)``; where no frame was read, those of the unit before."""
    found = np.zeros((len(edges) - 1, int(np.prod(_BINS))), np.float32)
    if not video.has_video:
        return found
    times = [float(time) for time in edges[:-1]]
    span = float(edges[-1] - edges[0])
    frames = yield from _read(video, times, "keyframe")
    if len(frames) < span / _SPARSE_S:
        every = max(1, round(_SPARSE_S / 3 / (span / len(times))))
        frames = yield from _read(video, times[::every], "exact")
    seen = np.zeros(len(found), bool)
    for time, colours in frames:
        index = min(max(int(np.searchsorted(edges, time, "right")) - 1, 0), len(found) - 1)
        found[index] += colours
        seen[index] = True
    filled = np.maximum.accumulate(np.where(seen, np.arange(len(found)), 0))
    return _unit(found[filled]).astype(np.float32)


def _read(video: Video, times: Sequence[float], sampling: Sampling) -> Generator[tuple[int, int], None, list[tuple[float, Features]]]:
    found = []
    with closing(video.frames(times, _PICTURE, sampling=sampling)) as frames:
        for frame in frames:
            found.append((frame.time, _colours(frame)))
            yield len(found), len(times)
    return found


def _colours(frame: Frame) -> Features:
    """Square roots of a colour histogram, of length 1: their distance is Hellinger's."""
    import cv2

    colours = cv2.cvtColor(frame.image, cv2.COLOR_RGB2HSV)
    histogram = cv2.calcHist([colours], [0, 1, 2], None, list(_BINS), [0, 180, 0, 256, 0, 256]).ravel()
    roots: Features = np.sqrt(histogram / max(1.0, float(histogram.sum()))).astype(np.float32)
    return roots


# ---- words ---------------------------------------------------------------------------------------------------------


class _Words:
    """The words of a transcript by time, weighted by their rarity (tf-idf), hashed to vectors."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        times: list[float] = []
        hashes: list[int] = []
        for segment in segments:
            words = _WORD.findall(segment.text.casefold())
            step = (segment.end - segment.start) / max(1, len(words))
            times += [segment.start + step * (number + 0.5) for number in range(len(words))]
            hashes += [zlib.crc32(word.encode()) % _WORDS for word in words]
        self._times, self._hashes = np.array(times), np.array(hashes, np.int64)
        blocks = {(int(time // _AROUND_S), word) for time, word in zip(times, hashes, strict=True)}
        spread = Counter(word for _, word in blocks)
        total = len({block for block, _ in blocks})
        self._weights = np.array([np.log((1 + total) / (1 + spread[word])) for word in range(_WORDS)])

    def between(self, start: float, end: float) -> Features:
        """What is said between two times; of length 1, or 0 where nothing is."""
        first, last = np.searchsorted(self._times, [start, end])
        vector = np.bincount(self._hashes[first:last], minlength=_WORDS) * self._weights
        scaled: Features = _unit(vector[None])[0].astype(np.float32)
        return scaled


def _unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.floating] = rows / np.where(lengths > 0, lengths, 1)
    return scaled


# ---- where exactly -------------------------------------------------------------------------------------------------


def _placed(
    video: Video, pictures: Features, words: _Words, segments: Sequence[Segment], index: int, edges: NDArray[np.floating]
) -> Generator[tuple[int, int], None, float]:
    """The moment near a cut at which the pictures turn from those before to those after; else the start of a sentence between the most
    different words."""
    time, unit = float(edges[index]), float(edges[1] - edges[0])
    reach = max(_AROUND_S, 1.5 * unit)
    near, far = round(reach / unit), round((reach + _BESIDE_S) / unit)
    before, after = pictures[max(0, index - far) : max(1, index - near)], pictures[index + near : index + far]
    if video.has_video and len(after):
        low, high = max(float(edges[0]), time - reach), min(float(edges[-1]), time + reach)
        frames = yield from _read(video, [float(at) for at in np.arange(low, high, _STEP_S)], "exact")
        colours = np.stack([found for _, found in frames])
        closer = ((colours - after.mean(0)) ** 2).sum(1) - ((colours - before.mean(0)) ** 2).sum(1)  # below 0: as those after
        split = int(np.argmin(closer[::-1].cumsum()[::-1]))
        if split and ((colours[split] - colours[split - 1]) ** 2).sum() >= _CUT:
            return frames[split][0]
    begins = [segment.start for segment in segments if time - reach <= segment.start <= time + reach]
    if not begins:
        return time
    return min(begins, key=lambda at: float(words.between(at - _BESIDE_S, at) @ words.between(at, at + _BESIDE_S)))
