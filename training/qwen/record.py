"""Trajectories as the real agent makes them with any model: every prompt and reply of a run, written down without pixels.

Frames are kept as times of a video and decoded again when a row is made of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Event, StepStarted
from sage_cli.model.base import ChatModel, Frames, Message, Part, Prompt, Reply, StreamItem, Text
from sage_cli.tools import TOOLS, TranscribeSpeech
from sage_cli.video import Video

if TYPE_CHECKING:
    from sage_cli.tools.workspace import SpeechModel

OWN: Final = ("look", "reason")  # the calls of the paper's two roles; the others are its tools' helper's
Hear: TypeAlias = "Callable[[Video], SpeechModel]"


class Recorder:
    """A :class:`ChatModel` that asks another and keeps what was asked and replied.

    Args:
        temperature, seed: of the agent's own calls, whatever it asks for; the tools' are left as they are.
        reply_tokens: most tokens of a reply.

    Attributes:
        step: of the agent, set by who runs it.
        calls: so far. A reply that the agent asked for again is left out: it could not be used.
    """

    def __init__(self, model: ChatModel, *, temperature: float, seed: int, reply_tokens: int) -> None:
        self._model, self._temperature, self._seed, self._reply_tokens = model, temperature, seed, reply_tokens
        self.step = -1
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def stream(self, prompt: Prompt, *, schema: Mapping[str, Any] | None = None, **more: Any) -> Generator[StreamItem, None, None]:
        role = role_of(schema)
        if role in OWN:
            more |= {"temperature": self._temperature, "seed": self._seed + len(self.calls)}
        more["max_tokens"] = min(more.get("max_tokens", self._reply_tokens), self._reply_tokens)
        for item in self._model.stream(prompt, schema=schema, **more):
            if isinstance(item, Reply):
                if role in OWN:
                    self.calls = [call for call in self.calls if (call["role"], call["step"]) != (role, self.step)]
                self.calls.append({"role": role, "step": self.step, "prompt": describe(prompt), "reply": item.text})
            yield item


def role_of(schema: Mapping[str, Any] | None) -> str:
    """What a call was for, by the reply that is asked for: ``look``, ``reason``, ``ground``, ``analyze``, or ``other``."""
    if schema is None:
        return "analyze"
    keys = json.dumps(schema)
    found = {"video_context": "look", "answerable": "reason", "timestamps": "ground"}
    return next((role for key, role in found.items() if f'"{key}":' in keys), "other")


def describe(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as JSON. Of a frame it keeps when it is in the video (``from``), and the time that the model is told, which may count from
    the start of a window (``times``) or be left out (``timed``)."""

    def part(given: Part) -> dict[str, Any]:
        if isinstance(given, Text):
            return {"text": given.text}
        frames = given.frames
        return {
            "from": [frame.source_time for frame in frames],
            "times": [frame.time for frame in frames],
            "timed": given.timed,
            "size": [frames[0].width, frames[0].height] if frames else [0, 0],
            "pairs": given.pairs,
        }

    return [{"role": message.role, "parts": [part(given) for given in message.parts]} for message in prompt]


def restore(described: Sequence[Mapping[str, Any]], video: Video) -> Prompt:
    """The prompt again, its frames decoded."""

    def part(given: Mapping[str, Any]) -> Part:
        if "text" in given:
            return Text(given["text"])
        width, height = given["size"]
        frames = zip(video.frames(given["from"], (width, height)), given["times"], strict=True)
        return Frames(tuple(frame.at(time) for frame, time in frames), pairs=given["pairs"], timed=given["timed"])

    return [Message(message["role"], tuple(part(given) for given in message["parts"])) for message in described]


def run_agent(
    model: ChatModel,
    video: Video,
    question: str,
    *,
    settings: Settings,
    temperature: float,
    seed: int,
    hear: Hear | None,
    once: bool = False,
) -> tuple[list[dict[str, Any]], list[Event]]:
    """Let the agent answer a question. Returns the calls it made, and its events.

    Args:
        hear: gives what hears a video; ``None``: the agent has no tool for speech.
        once: end the run where a reply has to be asked for again, as the paper's episodes end.
    """
    recorder: Any = Recorder(model, temperature=temperature, seed=seed, reply_tokens=settings.reply_tokens)
    tools = [tool for tool in TOOLS if hear or tool.name != TranscribeSpeech.name]
    agent = Agent(recorder, video, tools=tools, settings=settings, transcriber=partial(hear, video) if hear else None)
    events: list[Event] = []
    run: Any = agent.run(question)
    with closing(run):
        for event in run:
            if isinstance(event, StepStarted):
                if once and event.step == recorder.step:
                    break
                recorder.step = event.step
            events.append(event)
    return recorder.calls, events


def trajectories(
    teacher: ChatModel,
    video: Video,
    question: Mapping[str, Any],
    *,
    count: int,
    temperature: float,
    settings: Settings,
    hear: Hear | None,
) -> list[dict[str, Any]]:
    """A teacher's different trajectories for a question, right or wrong: as the paper's data has them."""
    unique: dict[str, dict[str, Any]] = {}
    for seed in range(count):
        calls, _ = run_agent(teacher, video, question["question"], settings=settings, temperature=temperature, seed=1000 * seed, hear=hear)
        key = json.dumps([call["reply"] for call in calls])
        unique.setdefault(
            key, {"video_path": str(video.path), "question": question["question"], "answer": question["answer"], "calls": calls}
        )
    return list(unique.values())


def append(path: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Append to a JSONL. A line that an interruption cut short is removed first."""
    if path.exists() and not (before := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, before.rfind(b"\n") + 1)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)


def read(path: Path) -> list[dict[str, Any]]:
    """A JSONL, but for a line that was cut short."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
