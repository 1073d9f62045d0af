"""A slow first look is announced with an estimate from an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sage_cli.agent.events import Budget, Event, FramesSampled, Notice, RunStarted, Span, StepFinished, StepStarted
from sage_cli.assets import CLIPS
from sage_cli.model.base import ModelInfo, Usage
from sage_cli.session import open_session, speeds

MODEL = ModelInfo("sage-nano", "qwen3-vl", 8192, "CPU", "CPU")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def announced(**options: Any) -> list[str]:
    """Notices between the sampled frames and the first step of a question, in a new session."""
    with open_session(model="nano", threads=1, **options) as session:
        events = list(session.ask(CLIPS / "short.mp4", "Which shape appears last?"))
    (sampled,) = [number for number, event in enumerate(events) if isinstance(event, FramesSampled)]
    begun = next(number for number, event in enumerate(events) if isinstance(event, StepStarted))
    assert sampled < begun
    return [event.text for event in events[sampled:begun] if isinstance(event, Notice)]


def test_a_first_look_is_measured_and_the_next_one_estimated() -> None:
    assert announced() == []  # nothing is known yet
    seconds = speeds.estimate(MODEL, 16)
    assert seconds and seconds > 0
    assert announced() == []  # its frames are cached
    speeds.remember(MODEL, 16, 240)
    assert announced() == []
    assert announced(frames=8) == ["the first look takes about 2 min, at the speed of an earlier run"]
    assert announced(cache_limit=0) == []


def test_the_second_reply_to_the_same_frames_is_not_measured() -> None:
    """A served model is asked once more for an answer under a schema, and never tells that it has seen the frames."""
    budget = Budget(16, 64, 64, 8192, 10, None, ())
    events: list[Event] = [
        RunStarted(0.0, "Why?", "a.mp4", 9.0, Span(0.0, 9.0), MODEL, budget),
        FramesSampled(0.5, tuple(range(16)), "uniform"),
        *(StepFinished(elapsed, 0, Usage(images=16)) for elapsed in (8.0, 80.0)),
    ]
    assert list(speeds.estimated(event for event in events)) == events
    assert speeds.estimate(MODEL, 16) == 8.0


def test_a_damaged_file_means_no_estimate(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Regression: a digit that another one took the place of was announced."""
    speeds.remember(MODEL, 16, 8)
    [file] = (cache / "speeds").iterdir()
    whole = file.read_bytes()
    damaged = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole))]
    for data in (*damaged, b"", b"[]", b"{", bytes(100), b"[" * 100_000, b'{"sage-nano on CPU, vision encoder on CPU": NaN}'):
        caplog.clear()
        file.write_bytes(data)
        assert speeds.estimate(MODEL, 16) is None
        assert "has damaged entries" in caplog.text
    speeds.remember(MODEL, 16, 8)
    assert speeds.estimate(MODEL, 32) == 16


def test_a_folder_that_cannot_be_written_costs_nothing(cache: Path) -> None:
    cache.write_text("a file")
    speeds.remember(MODEL, 16, 8)
    assert speeds.estimate(MODEL, 16) is None
