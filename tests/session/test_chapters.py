"""Where chapters begin, against all other divisions and by words alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import log
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.chapters import World, write_world
from sage_cli.session import chapters
from sage_cli.session.chapters import _pictures, _Words, change_points, find_chapters
from sage_cli.speech.segment import Segment
from sage_cli.tools import complete
from sage_cli.tools.base import Watched
from sage_cli.video import Video
from tests.media import make_audio, tone


def best_division(kernel: np.ndarray, shortest: int, most: int) -> tuple[int, ...]:
    """By trying them all: least variance within the parts and penalty of the paper."""
    count = len(kernel)

    def cost(cuts: tuple[int, ...]) -> float:
        parts = [kernel[first:last, first:last] for first, last in pairwise((0, *cuts, count))]
        penalty = len(cuts) / 2 * (log(count / len(cuts)) + 1) if cuts else 0.0
        return sum(float(part.trace() - part.sum() / len(part)) for part in parts) + penalty

    divisions = (cuts for number in range(most + 1) for cuts in combinations(range(1, count), number))
    return min((cuts for cuts in divisions if all(b - a >= shortest for a, b in pairwise((0, *cuts, count)))), key=cost)


@pytest.mark.parametrize(("shortest", "most"), [(1, 0), (1, 1), (1, 4), (2, 2), (2, 9), (3, 9), (6, 9)])
def test_change_points_are_those_of_the_best_division(shortest: int, most: int) -> None:
    numbers = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = np.repeat(rng.normal(0, 0.7, (4, 3)), rng.multinomial(6, [0.25] * 4) + 1, axis=0) + rng.normal(0, 0.2, (10, 3))
        found = change_points(rows @ rows.T, shortest, most)
        assert tuple(found) == best_division(rows @ rows.T, shortest, most)
        numbers.add(len(found))
    assert len(numbers) > 1 or most <= 1 or shortest > 5


def said(start: float, end: float, text: str) -> Segment:
    return Segment(start, end, text, 1.0)


def test_words_count_by_their_rarity_and_their_time() -> None:
    words = _Words([said(0, 10, "The oak, the fox."), said(30, 40, "The owl, the OAK"), said(60, 70, "The whale: a sea!")])
    first, second, third = (words.between(at, at + 10) for at in (0, 30, 60))
    common, rare = log(4 / 3), log(4 / 2)  # in two and in one of three stretches; "the" is in all
    assert float(first @ second) == pytest.approx(common**2 / (common**2 + rare**2))
    assert float(first @ third) == 0
    assert [float(np.linalg.norm(vector)) for vector in (first, second, third)] == pytest.approx([1, 1, 1])
    assert float(words.between(0, 4) @ first) == pytest.approx(common / np.hypot(common, rare))  # "the", at 1.25 s, and "oak", at 3.75 s
    assert not words.between(0, 3).any()
    assert not words.between(40, 60).any()
    few = _Words([said(0, 10, "..."), said(10, 20, "Whale"), said(40, 50, "Oak")])
    assert [bool(few.between(at, at + 1).any()) for at in (5, 10, 12, 14.5, 19)] == [False, False, False, True, False]
    assert not _Words([]).between(0, 9).any()


TOPICS = ("oak forest leaves squirrel", "whale ocean ship harbour", "violin concert piano opera")
BEGINS = (0, 131, 270, 400)


@pytest.fixture
def recording(tmp_path: Path) -> Video:
    return Video(make_audio(tmp_path / "talk.wav", tone(1.0)))  # only the words are looked at


def talk(topics: Sequence[str], begins: Sequence[int]) -> list[Segment]:
    """A sentence every 7 seconds."""
    return [
        said(at, min(at + 7, last), f"{topic.split()[at % 4]} {topic.split()[at // 7 % 4]} and so on")
        for topic, (first, last) in zip(topics, pairwise(begins), strict=True)
        for at in range(first, last, 7)
    ]


@pytest.mark.parametrize(("units", "shortest"), [(1200, 10), (40, 2), (8, 1)])
def test_words_alone_divide_a_recording(recording: Video, units: int, shortest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a long one, whose stretches are longer: memory grows with the square of their number."""
    monkeypatch.setattr(chapters, "_UNITS", units)
    asked: list[tuple[int, int]] = []

    def noted(kernel: NDArray[np.floating], shortest: int, most: int) -> list[int]:
        asked.append((len(kernel), shortest))
        return change_points(kernel, shortest, most)

    monkeypatch.setattr(chapters, "change_points", noted)
    segments = talk(TOPICS, BEGINS)
    assert complete(find_chapters(recording, segments, 0.0, 400.0)) == [*pairwise(map(float, BEGINS))]
    assert complete(find_chapters(recording, segments, 60.5, 390.0)) == [(60.5, 131.0), (131.0, 270.0), (270.0, 390.0)]
    assert asked == [(min(units, 200), shortest), (min(units, 164), shortest)]
    for end in (30.0, 0.5):
        assert complete(find_chapters(recording, segments, 0.0, end)) == [(0.0, end)]
        assert complete(find_chapters(recording, [], 0.0, end)) == [(0.0, end)]


@pytest.mark.parametrize("begins", [(0, 60, 350, 400), (0, 131, 170, 400)])
def test_no_chapter_is_empty_where_stretches_are_long(recording: Video, begins: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cuts may find the same sentence to begin with, or the first one."""
    monkeypatch.setattr(chapters, "_UNITS", 8)
    found = complete(find_chapters(recording, talk(TOPICS, begins), 0.0, 400.0))
    assert all(last - first > 1 for first, last in found)
    assert (found[0][0], found[-1][1]) == (0.0, 400.0)


def test_an_aside_is_no_chapter_and_there_are_not_too_many(recording: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = talk((TOPICS[0], TOPICS[2], TOPICS[0], TOPICS[1]), (0, 120, 134, 270, 400))
    assert complete(find_chapters(recording, aside, 0.0, 400.0)) == [(0.0, 270.0), (270.0, 400.0)]
    monkeypatch.setattr(chapters, "_MOST", 2)
    assert len(complete(find_chapters(recording, talk(TOPICS, BEGINS), 0.0, 400.0))) == 2


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Three scenes, of 91, 109 and 100 seconds, with a keyframe at least every ten."""
    path = tmp_path_factory.mktemp("scenes") / "world.mp4"
    write_world(World(300.0, [(0.0, "one"), (91.0, "another"), (200.0, "a third")], []), path, 1, pictures=True, words=False)
    return Video(path)


@pytest.mark.parametrize("sparse", [15.0, 1.0], ids=["keyframes", "frames in between"])
def test_pictures_alone_divide_a_video(scenes: Video, sparse: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chapters, "_SPARSE_S", sparse)
    assert complete(find_chapters(scenes, [], 0.0, 300.0)) == [(0.0, 91.0), (91.0, 200.0), (200.0, 300.0)]
    assert complete(find_chapters(scenes, [], 20.0, 290.0)) == [(20.0, 91.0), (91.0, 200.0), (200.0, 290.0)]


@pytest.mark.parametrize(("sparse", "read"), [(15.0, 0), (9.0, 75), (1.0, 150)])
def test_each_stretch_has_the_colours_of_its_scene(scenes: Video, sparse: float, read: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyframes where they are close enough; else frames at a third of the distance that would be."""
    monkeypatch.setattr(chapters, "_SPARSE_S", sparse)
    steps = Watched(_pictures(scenes, np.arange(0.0, 301.0, 2.0)))
    done, total = [*steps][-1]
    assert (done, total) == (read, read) if read else done < 60 < total
    rows = steps.result
    assert rows.shape == (150, 128)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0)
    mixed = {45} if read else {*range(45, 51), *range(100, 106)}  # of two scenes, or before the scene's first keyframe
    known = [row for row in range(150) if row not in mixed]
    labels = np.array([(row > 45) + (row > 99) for row in known])
    alike = (rows @ rows.T)[np.ix_(known, known)]
    same = labels[:, None] == labels
    assert alike[same].min() > alike[~same].max()
