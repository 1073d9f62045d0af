"""A run writes nothing: a full disk for temporary files cannot change an answer."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Answer, ToolFinished
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel, call, context, reasoner


@pytest.mark.parametrize("kind", ["frames", "subclips"])
def test_parts_of_a_video_need_no_disk(video: Video, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_args: object, **_options: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    monkeypatch.setattr(tempfile, "mkstemp", full)
    where = {"video_path": "holiday.mp4", "timestamp_start": "00:02", "timestamp_end": "00:20"}
    name = "c1.mp4" if kind == "subclips" else "f1/00:02.jpg"
    model = ScriptedModel(
        context(None, call("extract_parts_from_timestamp", **where, extract_type=kind)),
        reasoner(None, call("perform_reasoning", query="Which colour?", media_paths=[name])),
        "It is red.",
        reasoner("Red."),
    )
    events = list(Agent(model, video, settings=Settings(frames=8)).run("Which colour?"))
    assert all(event.ok for event in events if isinstance(event, ToolFinished))
    assert isinstance(events[-1], Answer)
