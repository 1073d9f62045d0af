"""Questions about recordings of sound: with the nano models, on the sound of a bundled clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sage_cli.agent.events import Answer
from sage_cli.assets import CLIPS
from sage_cli.assets import NANO as NANO_MODEL
from sage_cli.errors import UsageError, VideoError
from sage_cli.model.llama import LlamaModel
from sage_cli.session import open_session
from sage_cli.video import SilentError, Video
from tests.media import make_audio, tone
from tests.openai_server import Served, serve

NANO: dict[str, Any] = {"model": "nano", "threads": 1, "cache_limit": 0}
ASKED = "Which number is spoken?"


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audio(tmp_path_factory.mktemp("talk") / "talk.wav", Video(CLIPS / "speech.mp4").audio(), rate=16000)


def test_a_recording_is_asked_like_a_video(talk: Path) -> None:
    with open_session(**NANO) as session:
        assert {tool.name for tool in session.agent(session.video(talk)).tools} == {"transcribe-speech"}
        for _ in range(2):
            *_, end = session.ask(talk, ASKED)
            assert isinstance(end, Answer)
            assert end.answer == "The number is seven."
            assert {one.what for one in end.evidence} == {"speech transcribed"}
            assert end.usage.images == 0


def test_the_web_may_help_with_a_recording(talk: Path) -> None:
    with open_session(**NANO, web="on") as session:
        tools = [tool.name for tool in session.agent(session.video(talk)).tools]
    assert tools == ["transcribe-speech", "web-search", "parse-website"]


def test_subtitles_need_no_speech_model(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "talk.wav", tone(30.0))
    (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:05,000\nThe number is seven.\n")
    with LlamaModel(NANO_MODEL.text, NANO_MODEL.mmproj, context_size=8192, threads=1) as model, serve(Served(model)) as server:
        with open_session(model=server.url, prompts="nano", cache_limit=0) as session:
            *_, end = session.ask(path, ASKED)
        assert isinstance(end, Answer)
        assert {one.what for one in end.evidence} == {"subtitles read"}
        # Servers of models without eyes know no other content.
        assert all(isinstance(message["content"], str) for body in server.requests for message in body["messages"])
        assert "The number is seven." in json.dumps(server.requests[-1])


def test_without_a_way_to_hear_a_recording_is_refused(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"tools": False}, {"direct": True}, {"no_tool": ["transcribe-speech"]}):
        with (
            open_session(**NANO, **options) as session,
            pytest.raises(UsageError, match="has sound but no picture: what is said has to be"),
        ):
            list(session.ask(talk, ASKED))
    with open_session(**NANO) as session:
        monkeypatch.setattr(type(session), "speech_file", None)
        with pytest.raises(VideoError, match="has sound but no picture, and there is no speech model: run 'sage models pull"):
            list(session.ask(talk, ASKED))


def test_tools_that_a_question_goes_without_are_no_option(talk: Path) -> None:
    with open_session(model="nano", threads=1) as session, pytest.raises(UsageError, match="transcribed; turn tools on"):
        [*session.ask(talk, "What is said?", tools=False)]


def test_a_recording_in_which_nothing_is_said_says_so(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "silent.wav", np.zeros(16000 * 5, np.float32), rate=16000)
    with open_session(**NANO) as session, pytest.raises(SilentError, match="there is no picture, and nothing is said"):
        list(session.ask(path, ASKED))
