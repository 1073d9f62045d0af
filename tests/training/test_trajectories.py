"""The training data against the real thing: the agent and its tools, played a trajectory, must ask exactly what it says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Answer, ToolFinished
from sage_cli.assets import NANO
from sage_cli.model.base import Frames, Text
from sage_cli.prompts import Prompts
from sage_cli.video import Video
from tests.agent.scripted import Asked, ScriptedModel
from training.clips import write_clip
from training.questions import KINDS, Kind, some_question
from training.trajectories import FRAMES, Listener, Trajectory, Turn, slice_times

DURATIONS: dict[Kind, float] = {"visual": 9, "speech": 12, "moment": 70, "cue": 90, "ground": 40, "none": 30}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_agent_asks_what_was_trained(kind: Kind, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, question = some_question(random.Random(seed), kind, DURATIONS[kind])
    # espeak-ng need not be installed for this: what is said comes from the listener.
    monkeypatch.setattr("training.clips.soundtrack", lambda world, voice: np.zeros(round(world.duration * 16_000), np.float32))
    path = write_clip(world, tmp_path / "clip.mp4", size=96, rate=4)
    video = Video(path)
    turns = list(Trajectory(world, question, path.name).turns())
    model = ScriptedModel(*(turn.plain_reply for turn in turns))  # strict: every reply has to satisfy the schema in force
    settings = Settings(frames=NANO.frames, frame_tokens=NANO.frame_tokens, prompts=Prompts(NANO.name))
    events = list(Agent(model, video, settings=settings, transcriber=lambda: Listener(world)).run(question.text))

    assert isinstance(events[-1], Answer), events[-1]
    assert [asked_as(asked) for asked in model.asked] == [trained_as(turn, video) for turn in turns]
    assert all(event.ok for event in events if isinstance(event, ToolFinished))
    if question.kind != "ground":
        assert events[-1].answer == question.answer


def asked_as(asked: Asked) -> tuple[list[tuple[str, str]], list[str]]:
    """The texts by role, and the times written before the slices."""
    texts = [(str(message.role), part.text) for message in asked.prompt for part in message.parts if isinstance(part, Text)]
    frames = [frame.time for message in asked.prompt for part in message.parts if isinstance(part, Frames) for frame in part.frames]
    return texts, [f"{time:.0f}" for time in slice_times(frames)]


def trained_as(turn: Turn, video: Video) -> tuple[list[tuple[str, str]], list[str]]:
    system = [("system", turn.system)] if turn.system is not None else []
    shown = {frame.key: frame.time for frame in video.frames(turn.times, (32, 32))}  # the frames on screen at these times
    return [*system, ("user", turn.text)], [f"{time:.0f}" for time in slice_times(list(shown.values()))]


def test_settings_are_those_of_training() -> None:
    assert NANO.frames == FRAMES


@pytest.mark.parametrize("kind", KINDS)
def test_grounded_answers_lie_within_two_seconds(kind: Kind) -> None:
    rng = random.Random(5)
    for _ in range(200):
        world, question = some_question(rng, kind)
        *_, last = Trajectory(world, question, "clip.mp4").turns()
        if question.kind == "ground":
            text = last.plain_reply.split('"final_answer": "')[1]
            found = [60 * int(text[at - 2 : at]) + int(text[at + 1 : at + 3]) for at in _second_colons(text)]
            assert all(abs(a - b) <= 2 for a, b in zip(found, question.evidence, strict=True)), (world.duration, text, question.evidence)


def _second_colons(text: str) -> list[int]:
    colons = [at for at, character in enumerate(text.split('"')[0]) if character == ":"]
    return colons[1::2]
