"""Under the schemas an untrained model is a fuzzer: whatever is allowed has to work."""

from __future__ import annotations

import random
from pathlib import PurePath
from typing import Any

import pytest

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Answer, NoAnswer, Notice, StepStarted, ToolCalled, ToolFinished
from sage_cli.agent.protocol import WIRE_NAMES, ContextReply, ReasonerReply, context_schema, reasoner_schema
from sage_cli.agent.reading import read
from sage_cli.tools import TOOLS, Workspace
from sage_cli.tools.reply import WRAP
from sage_cli.video import Video
from tests.agent.scripted import RandomModel, walk


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_schema_allows_is_a_reply_inside_the_run(video: Video, seed: int) -> None:
    rng = random.Random(seed)
    tools = {WIRE_NAMES[tool.name]: tool for tool in TOOLS}
    with Workspace(RandomModel(seed), video, span=(3.0, 28.0)) as workspace:
        media = {*workspace.add_frames(list(video.frames([4.0, 9.0], (64, 32)))), workspace.add_clip(4.0, 6.0)}
        kinds: list[tuple[type[ContextReply] | type[ReasonerReply], dict[str, Any]]] = [
            (ContextReply, context_schema(TOOLS, workspace)),
            (ReasonerReply, reasoner_schema(TOOLS, workspace, last=False)),
        ]
        for kind, schema in kinds * 10:
            body = walk(schema, rng, WRAP).removeprefix(WRAP[0]).removesuffix(WRAP[1])
            reply: ContextReply | ReasonerReply = read(ContextReply, body) if kind is ContextReply else read(ReasonerReply, body)
            call = reply.recommended_tools.call
            assert (call is None) == (reply.final_answer is not None)
            if call is None:
                continue
            tool = tools[call.name]
            arguments = tool.arguments.model_validate(call.arguments, strict=True)
            assert call.arguments.get("video_path", "holiday.mp4") == "holiday.mp4"
            assert set(call.arguments.get("media_paths", ())) <= {*media, "holiday.mp4"}
            span = tool.span(arguments, workspace)
            if span is not None:
                assert 3.0 <= span[0] <= span[1] <= 28.0


@pytest.mark.parametrize("seed", range(5))
def test_random_runs_end_properly(video: Video, seed: int) -> None:
    agent = Agent(RandomModel(seed), video, settings=Settings(frames=8, max_steps=6))
    for question in ("Why?", "Where?"):
        events = list(agent.run(question))
        assert isinstance(events[-1], Answer | NoAnswer)
        assert not any(isinstance(event, Answer | NoAnswer) for event in events[:-1])
        assert 1 <= sum(isinstance(event, StepStarted) for event in events) <= 7
        assert not any("could not be read" in event.text for event in events if isinstance(event, Notice))
        called = [event for event in events if isinstance(event, ToolCalled)]
        finished = [event for event in events if isinstance(event, ToolFinished)]
        assert [event.step for event in called] == [event.step for event in finished] == list(range(len(called)))
        made: set[str] = set()
        for call, end in zip(called, finished, strict=True):
            # There is no speech model in these runs; nothing else may fail.
            assert end.ok or call.tool == "transcribe-speech", end.result
            assert call.span is not None or call.tool == "analyze"
            assert set(call.arguments.get("media_paths", ())) <= {*made, "holiday.mp4"}
            made |= set(end.result.get("media_paths", ()))
        assert not any(PurePath(name).is_absolute() or ".." in PurePath(name).parts for name in made)
