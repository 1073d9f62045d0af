"""Events found without a question."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sage_cli.assets import CLIPS
from sage_cli.errors import ModelError, VideoError
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


def test_spans_that_touch_are_one() -> None:
    assert _joined([(4790.0, 4800.0), (4800.16, 4801.0), (4802.0, 4803.0)]) == [(4790.0, 4801.0), (4802.0, 4803.0)]
    assert _joined([(0.0, 9.0), (8.0, 8.5)]) == [(0.0, 9.0)]


def test_sound_alone_shows_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has sound but no picture"):
        found(make_audio(tmp_path / "a.wav", tone(1.0)), "a red star")


@pytest.mark.parametrize("said", ["", "<think>The star is", "There is no JSON here."])
def test_a_reply_that_says_nothing_is_no_event_that_was_not_found(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr("sage_cli.session.ground.WINDOW_S", 6.0)
    with (
        serve(Served(text=said)) as server,
        open_session(model=server.url, prompts="sage-mm", frames=2, frame_tokens=16, cache_limit=0) as session,
    ):
        video = session.video(CLIPS / "short.mp4")
        with pytest.raises(ModelError, match="no times that can be read; try another model"):
            list(ground(session, video, "a red star"))
        first = next(step for step in ground(session, video, "a red star") if step is not None)
        assert "no times that can be read for 00:00:00-00:00:06" in first.notices[0]
        server.text = '{"start": null, "end": null}'
        assert [step.notices for step in ground(session, video, "a red star") if step is not None] == [(), ()]
