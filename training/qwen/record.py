"""Trajectories as the real agent makes them with any model: every prompt and reply of a run, written down without pixels.

Frames are kept as times of a video and decoded again when a row is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Event
from sage_cli.model.base import ChatModel, Frames, Message, Part, Prompt, Reply, StreamItem, Text
from sage_cli.tools import TOOLS
from sage_cli.tools.base import AnyTool
from sage_cli.video import Video


class Recorder:
    """A :class:`ChatModel` that asks another and keeps what was asked and replied.

    Args:
        temperature, seed: of the agent's own calls, whatever it asks for; the tools' are left as they are.
        reply_tokens: most tokens of a reply.
    """

    def __init__(self, model: ChatModel, *, temperature: float, seed: int, reply_tokens: int) -> None:
        self._model, self._temperature, self._seed, self._reply_tokens = model, temperature, seed, reply_tokens
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def stream(self, prompt: Prompt, *, schema: Mapping[str, Any] | None = None, **more: Any) -> Generator[StreamItem, None, None]:
        role = role_of(schema)
        if role in ("look", "reason"):
            more |= {"temperature": self._temperature, "seed": self._seed + len(self.calls)}
        more["max_tokens"] = min(more.get("max_tokens", self._reply_tokens), self._reply_tokens)
        for item in self._model.stream(prompt, schema=schema, **more):
            if isinstance(item, Reply):
                self.calls.append({"role": role, "prompt": describe(prompt), "reply": item.text})
            yield item


def role_of(schema: Mapping[str, Any] | None) -> str:
    """What a call was for, by the reply that is asked for: ``look``, ``reason``, ``ground``, ``analyze``, or ``other``."""
    if schema is None:
        return "analyze"
    keys = schema.get("anyOf", [schema])[0].get("properties", {})
    found = {"video_context": "look", "answerable": "reason", "timestamps": "ground"}
    return next((role for key, role in found.items() if key in keys), "other")


def describe(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as JSON."""

    def part(given: Part) -> dict[str, Any]:
        if isinstance(given, Text):
            return {"text": given.text}
        size = [given.frames[0].width, given.frames[0].height] if given.frames else [0, 0]
        return {"times": [frame.time for frame in given.frames], "size": size, "pairs": given.pairs}

    return [{"role": message.role, "parts": [part(given) for given in message.parts]} for message in prompt]


def restore(described: Sequence[Mapping[str, Any]], video: Video) -> Prompt:
    """The prompt again, its frames decoded."""

    def part(given: Mapping[str, Any]) -> Part:
        if "text" in given:
            return Text(given["text"])
        width, height = given["size"]
        return Frames(tuple(video.frames(given["times"], (width, height))), pairs=given["pairs"])

    return [Message(message["role"], tuple(part(given) for given in message["parts"])) for message in described]


def run_agent(
    model: ChatModel,
    video: Video,
    question: str,
    *,
    settings: Settings,
    temperature: float,
    seed: int,
    tools: Sequence[AnyTool] = TOOLS,
    **more: Any,
) -> tuple[list[dict[str, Any]], list[Event]]:
    """Let the agent answer a question. Returns the calls it made, and its events.

    Args:
        more: for :class:`Agent`, such as a transcriber.
    """
    recorder: Any = Recorder(model, temperature=temperature, seed=seed, reply_tokens=settings.reply_tokens)
    events = list(Agent(recorder, video, tools=tools, settings=settings, **more).run(question))
    return recorder.calls, events


def trajectories(
    teacher: ChatModel, video: Video, question: Mapping[str, Any], *, count: int, temperature: float, settings: Settings, **more: Any
) -> list[dict[str, Any]]:
    """A teacher's different trajectories for a question, right or wrong: as the paper's data has them."""
    unique: dict[str, dict[str, Any]] = {}
    for seed in range(count):
        calls, _ = run_agent(teacher, video, question["question"], settings=settings, temperature=temperature, seed=1000 * seed, **more)
        key = json.dumps([call["reply"] for call in calls])
        unique.setdefault(
            key, {"video_path": str(video.path), "question": question["question"], "answer": question["answer"], "calls": calls}
        )
    return list(unique.values())


def append(path: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Append to a JSONL."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)


def read(path: Path) -> list[dict[str, Any]]:
    """A JSONL."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
