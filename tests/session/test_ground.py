"""Events found without a question."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from sage_cli.assets import CLIPS
from sage_cli.errors import ModelError, NoReplyError, VideoError
from sage_cli.session import open_session
from sage_cli.session.ground import Found, _joined, ground
from sage_cli.video import Video
from tests.media import make_audio, make_video, tone
from tests.openai_server import Seer, Served, serve

NANO: dict[str, Any] = {"model": "nano", "threads": 1, "cache_limit": 0}


def found(video: Path, event: str, *, quick: bool = False, **options: Any) -> list[Found]:
    with open_session(**NANO, **options) as session:
        return [step for step in ground(session, session.video(video), event, quick=quick) if step is not None]


def test_a_context_that_is_too_small_is_no_event_that_was_not_found() -> None:
    with pytest.raises(ModelError, match=r"does not fit the model's context of 256 tokens; raise --ctx-size"):
        found(CLIPS / "short.mp4", "a red star", ctx_size=256)


def test_frames_that_do_not_fit_are_told() -> None:
    (whole,) = found(CLIPS / "short.mp4", "a red star")
    (part,) = found(CLIPS / "short.mp4", "a red star", ctx_size=512, frames=64)
    assert whole.notices == ()
    assert "frames shown to the model: more do not fit" in "".join(part.notices)


def test_an_event_over_the_end_of_a_window_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_cli.session.ground.WINDOW_S", 4.0)
    steps = found(CLIPS / "short.mp4", "red star")
    assert sorted({step.until for step in steps}) == [4.0, 8.0, 12.0]
    spans = [span for step in steps for span in step.spans]
    assert spans
    assert all(end - start >= 1.0 for start, end in spans)
    assert all(after - before >= 1.0 for (_, before), (after, _) in pairwise(spans))
    assert steps[-1].held == ()
    # Nothing is lost to whoever stops after a call.
    assert all(any(span[0] <= held[0] <= span[1] for span in spans) for step in steps for held in step.held)


def test_a_window_is_searched_for_every_occurrence(tmp_path: Path) -> None:
    clip = Video(CLIPS / "short.mp4")
    circle, star = (frame.image for frame in clip.frames([2.0, 8.0]))
    video = make_video(
        tmp_path / "twice.mp4",
        seconds=30,
        fps=5,
        size=(clip.width, clip.height),
        painter=lambda time, _: star if 2 <= time < 8 or 20 <= time < 26 else circle,
    )
    (one,) = found(video, "red star", quick=True)
    assert len(one.spans) == 1
    steps = found(video, "red star")
    spans = [span for step in steps for span in step.spans]
    assert all(any(min(end, last) - max(start, first) >= 4 for start, end in spans) for first, last in [(2, 8), (20, 26)])
    assert len(spans) > len(one.spans)
    assert steps[-1].calls == len(steps)


EVENTS = [(20, 30), (100, 110), (200, 205), (325, 335), (600, 660)]


@contextmanager
def seen(seer: Seer, event: str = "a goal", prompts: str = "general", **how: Any) -> Iterator[list[Found]]:
    with serve(seer), open_session(model=seer.url, frames=2, cache_limit=0, prompts=prompts) as session:
        yield [step for step in ground(session, session.video(CLIPS / "long.mp4"), event, **how) if step is not None]


@pytest.mark.parametrize("first", [True, False])
def test_all_occurrences_are_found_in_order(first: bool) -> None:
    seer = Seer(events=EVENTS, first=first)
    with seen(seer) as steps:
        assert [span for step in steps for span in step.spans] == EVENTS
    assert not any(step.notices for step in steps)
    assert len(seer.windows) == len(set(seer.windows)) == steps[-1].calls <= 2 + 2 * 6  # one event is over the end of a window
    assert all(end - start >= 10 for start, end in seer.windows)
    for (start, end), (begin, last) in combinations(
        seer.windows, 2
    ):  # a later one is a part of an earlier one that lacks what was found there
        assert last <= start or end <= begin or (start <= begin and last <= end and last - begin < end - start)
    # They come as early as their order allows: those of the first window before the second is searched.
    assert [span for step in steps for span in step.spans if step.until <= 330] == EVENTS[:3]


def test_what_is_found_is_held_until_what_is_before_it_is_searched() -> None:
    with seen(Seer(events=EVENTS[:3], first=False)) as steps:
        assert [step.held for step in steps[:2]] == [((200.0, 205.0),), ((100.0, 110.0), (200.0, 205.0))]
        assert all(set(held) <= set(EVENTS) for held in (step.held for step in steps))


def test_a_quick_search_calls_the_model_once_per_window() -> None:
    seer = Seer(events=EVENTS)
    with seen(seer, quick=True) as steps:
        assert [span for step in steps for span in step.spans] == [(20, 30), (330, 335)]
    assert seer.windows == [(0, 330), (330, 660)]
    assert not any(step.notices for step in steps)


def test_a_model_that_sees_the_event_everywhere_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_cli.session.ground.MOST_CALLS", 8)
    with seen(Seer(events=None)) as steps:
        told = [notice for step in steps for notice in step.notices]
    assert steps[-1].calls == 16
    assert [re.sub(r"\d\d:\d\d:\d\d-", "", notice) for notice in told] == [
        f"{end} may show more: its window had all its 8 calls of the model; search that part alone" for end in ("00:05:30", "00:11:00")
    ]


def test_a_margin_stays_inside_the_video_and_joins_what_it_overlaps() -> None:
    with seen(Seer(events=[*EVENTS, (2, 5)]), margin=8.0) as steps:
        assert [span for step in steps for span in step.spans] == [(0, 38), (92, 118), (192, 213), (317, 343), (592, 660)]


@pytest.mark.parametrize("begin", [0.0, 60.0])
def test_times_from_the_start_of_a_rest_are_not_taken_for_times_of_the_video(begin: float) -> None:
    events = [(20, 30), (200, 205), (325, 335), (600, 660)]
    with seen(Seer(events=events, from_zero=True), prompts="sage-mm", start=begin) as steps:
        assert [span for step in steps for span in step.spans] == [event for event in events if event[0] >= begin]


def test_windows_whose_reply_cannot_be_read_are_told() -> None:
    with serve(Served(text="")) as server, open_session(model=server.url, frames=2, cache_limit=0) as session:
        searched = ground(session, session.video(CLIPS / "long.mp4"), "a red star")
        first = next(step for step in searched if step is not None)
        server.text = '{"timestamps": {"start": null, "end": null}}'
        (second,) = [step for step in searched if step is not None]
        assert first.notices == ("00:00:00-00:05:30 could not be searched: the model gave no times that can be read",)
        assert second.notices == ()
        server.text = ""
        with pytest.raises(NoReplyError, match="the video could not be searched: the model gave no times that can be read"):
            list(ground(session, session.video(CLIPS / "long.mp4"), "a red star"))


def test_spans_that_touch_are_one() -> None:
    assert _joined([(4790.0, 4800.0), (4800.16, 4801.0), (4802.0, 4803.0)]) == [(4790.0, 4801.0), (4802.0, 4803.0)]
    assert _joined([(0.0, 9.0), (8.0, 8.5)]) == [(0.0, 9.0)]


def test_sound_alone_shows_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has sound but no picture"):
        found(make_audio(tmp_path / "a.wav", tone(1.0)), "a red star")
