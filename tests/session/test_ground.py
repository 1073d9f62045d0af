"""Events found without a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sage_cli.assets import CLIPS
from sage_cli.errors import ModelError, VideoError
from sage_cli.session import open_session
from sage_cli.session.ground import Found, ground
from tests.media import make_audio, tone

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


def test_sound_alone_shows_nothing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="has sound but no picture"):
        found(make_audio(tmp_path / "a.wav", tone(1.0)), "a red star")
