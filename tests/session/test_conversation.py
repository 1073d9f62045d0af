"""A conversation outlives what it is about, and whoever listens."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from sage_cli.agent.events import Answer, Event, Notice, StepFinished
from sage_cli.assets import CLIPS
from sage_cli.session import log, open_session
from sage_cli.session.conversation import Conversation
from sage_cli.video import Video


@pytest.fixture(autouse=True)
def _own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SAGE_")]:
        monkeypatch.delenv(name)
    for name in "SAGE_CONFIG", "SAGE_MODELS_DIR", "SAGE_CACHE_DIR", "SAGE_LOG_FILE":
        monkeypatch.setenv(name, str(tmp_path / name))


def replaceable(folder: Path) -> tuple[Path, Path]:
    """A video, and another to put in its place."""
    path, new = folder / "talk.mp4", folder / "new.mp4"
    shutil.copy(CLIPS / "short.mp4", path)
    shutil.copy(CLIPS / "speech.mp4", new)
    return path, new


def earlier(conversation: Conversation) -> list[str]:
    """The questions that a model would be given that, unlike nano, was trained on conversations."""
    with patch.dict(vars(conversation.session), bundled=None):
        return [question for question, _ in conversation.earlier]


def told(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def test_an_answer_that_was_seen_is_recorded() -> None:
    with open_session(model="nano", threads=1) as session:
        conversation = Conversation(session, CLIPS / "short.mp4")
        events = conversation.ask("Which shape appears last?")
        while not isinstance(next(events), Answer):
            pass
        events.close()  # as on Ctrl-C
    assert len(conversation.runs) == len(log.newest()) == 1


def test_an_answer_about_a_file_that_was_replaced_meanwhile_is_logged_with_what_it_is_about(tmp_path: Path) -> None:
    path, new = replaceable(tmp_path)
    with open_session(model="nano", threads=1) as session:
        conversation = Conversation(session, path)
        conversation.tools = False
        for event in conversation.ask("Which shape appears last?"):
            if isinstance(event, StepFinished) and new.exists():
                new.replace(path)
    assert log.newest()[0].media == conversation.runs[0]["fingerprint"] != Video(path).id


def test_answers_about_other_parts_are_not_repeated() -> None:
    with open_session(model="nano", threads=1) as session:
        conversation = Conversation(session, CLIPS / "short.mp4")
        for span in (0.0, 5.0), (6.0, 11.0):
            conversation.span = span
            [*conversation.ask("Which shape appears last?")]
        answers = [str(run["answer"]) for run in conversation.runs]
        other = "(This was about another part of the video.)"
        for now, expected in (
            (None, answers),
            ((0.0, 5.0), [answers[0], other]),
            ((5.5, 12.0), [other, answers[1]]),
            ((4.0, 8.0), [other, other]),
        ):
            conversation.span = now
            with patch.dict(vars(session), bundled=None):
                assert conversation.earlier == [("Which shape appears last?", answer) for answer in expected]


def test_answers_about_what_a_file_was_are_told_apart(tmp_path: Path) -> None:
    path, new = replaceable(tmp_path)
    with open_session(model="nano", threads=1) as session:
        conversation = Conversation(session, path)
        [*conversation.ask("Which shape appears last?")]
        assert earlier(conversation) == ["Which shape appears last?"]
        new.replace(path)
        assert earlier(conversation) == []
        changed = "talk.mp4 has changed: earlier questions and answers are about what it was, and are not used"
        assert changed in told([*conversation.ask("Which number is spoken?")])
        assert changed not in told([*conversation.ask("Which number is spoken?")])
        assert earlier(conversation) == ["Which number is spoken?"] * 2
        for again in conversation, Conversation(session, path, resume=True):
            (_, before), (_, now), _ = again.subjects()
            assert before == f"{path} has changed since it was asked about"
            assert isinstance(now, Video)
        path.unlink()
        assert {video for _, video in conversation.subjects()} == {f"{path} does not exist; check the path"}
