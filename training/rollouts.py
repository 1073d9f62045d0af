"""Rollouts: the real agent of ``sage`` with its real tools, asking the model in training about videos of the synthetic world.

A :class:`WorldVideo` draws its frames instead of decoding them, and speech is heard as it was said; all else is what a user runs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sage_cli.agent import Agent, Settings
from sage_cli.assets import NANO
from sage_cli.prompts import Prompts
from sage_cli.tools import TOOLS
from sage_cli.video import Frame, MediaNotice, Video
from training.chat import Call, Engine, RolloutModel
from training.questions import Question, some_question
from training.steps import Step, read_steps
from training.trajectories import Listener, some_name
from training.world import World, degrade

_CUT: Final = 0.5  # seconds of a line that a window may cut off and that is heard all the same
LOCAL_TOOLS: Final = tuple(tool for tool in TOOLS if tool.name not in ("web-search", "parse-website"))


class WorldFrames(Iterator[Frame]):
    """Frames of a world at some times, each drawn when it is looked at."""

    method: Final = "scan"

    def __init__(self, video: WorldVideo, times: Sequence[float], size: tuple[int, int]) -> None:
        self._frames = (video.frame(time, size) for time in times)

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Nothing is held."""


class WorldVideo(Video):
    """A world as a video file that was never written.

    Args:
        name: the file name that the model reads.
        seed: of the noise that a codec would add.
    """

    def __init__(self, world: World, name: str, seed: int) -> None:
        self.world, self.path, self.name, self.id, self.duration = world, Path(name), name, f"world-{seed}", world.duration
        self.has_video, self.has_audio, self.width, self.height, self.rotation = True, True, 96, 96, 0
        self.fps, self.video_codec, self.audio_codec = 4.0, "none", "none"
        self._seed = seed

    @property
    def notices(self) -> tuple[MediaNotice, ...]:
        return ()

    def frame(self, time: float, size: tuple[int, int]) -> Frame:
        """The frame on screen at a time."""

        def draw() -> NDArray[np.uint8]:
            noise = np.random.default_rng([self._seed, round(time * 1000)])
            return degrade(self.world.render(time, size[0])[None], noise)[0]

        return Frame.undecoded(time, size, f"{self.id}@{time:.6f}", draw)

    def frames(  # type: ignore[override]
        self, times: Sequence[float], size: tuple[int, int] | None = None, **_: object
    ) -> WorldFrames:
        return WorldFrames(self, times, size or (self.width, self.height))

    def clip(self, start: float, end: float, target: str | os.PathLike[str], **_: object) -> Path:
        return Path(target)


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a world, and how the world is presented."""

    world: World
    question: Question
    name: str
    seed: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one agent did.

    Attributes:
        calls: of the model, the tools' own included, in order.
        steps: of the agent.
        answer: ``None`` for none.
        grounded: the last span that grounding found, in seconds.
        cut: replies that the token limit ended.
    """

    task: Task
    calls: tuple[Call, ...]
    steps: tuple[Step, ...]
    answer: str | None
    grounded: tuple[float, float] | None
    cut: int


def roll_out(
    engine: Engine, task: Task, seed: int, *, temperature: float, max_turns: int, reply_tokens: int, tools: bool = True
) -> Rollout:
    """Let an agent answer a question. For jobs of :meth:`Engine.run`.

    Args:
        max_turns: most calls of the reasoner.
        tools: without, the first look has to answer.
    """
    model = RolloutModel(engine, seed, temperature=temperature, reply_tokens=reply_tokens)
    settings = Settings(
        frames=NANO.frames,
        frame_tokens=NANO.frame_tokens,
        max_steps=max_turns if tools else 0,
        reply_tokens=reply_tokens,
        prompts=Prompts(NANO.name),
    )
    video = WorldVideo(task.world, task.name, task.seed)
    agent = Agent(model, video, tools=LOCAL_TOOLS, settings=settings, transcriber=lambda: Listener(task.world, _CUT))
    events = list(agent.run(task.question.text))
    decode = engine.encoder.tokenizer.decode
    own = [call for call in model.calls if call.role in ("look", "reason")]
    steps, answer, grounded = read_steps([(call.role, decode(call.reply)) for call in own], events)
    return Rollout(task, tuple(model.calls), tuple(steps), answer, grounded, sum(call.finish == "length" for call in own))


def some_task(rng: random.Random, kind: Any) -> Task:
    """A task of a kind of question."""
    world, question = some_question(rng, kind)
    return Task(world, question, some_name(rng), rng.getrandbits(31))
