"""Events found without a question."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sage_cli.assets import CLIPS
from sage_cli.errors import ModelError, NoReplyError, VideoError
from sage_cli.session import open_session
from sage_cli.session.ground import Found, _joined, ground
from tests.media import make_audio, tone
from tests.openai_server import Served, serve

NANO: dict[str, Any] = {"model": "nano", "threads": 1, "cache_limit": 0}


def found(video: Path, event: str, **options: Any) -> list[Found]:
    with open_session(**NANO, **options) as session:
        return [step for step in ground(session, session.video(video), event) if step is not None]


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
    assert [step.end for step in steps] == [4.0, 8.0, 12.0]
    spans = [span for step in steps for span in step.spans]
    assert spans
    assert all(end - start >= 1.0 for start, end in spans)
    assert all(after - before >= 1.0 for (_, before), (after, _) in pairwise(spans))
    assert steps[-1].held == ()
    # Nothing is lost to whoever stops after a window.
    assert all(span[1] > step.end - 1.0 for step in steps for span in step.held)
    assert all(any(span[0] <= held[0] <= span[1] for span in spans) for step in steps for held in step.held)


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
