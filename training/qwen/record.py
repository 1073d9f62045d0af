"""Trajectories as the real agent makes them with any model: every prompt and reply of a run, written down without pixels.

Frames are kept as times of a video and decoded again when a row is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Event, StepStarted
from sage_cli.bench.items import Item, json_lines
from sage_cli.errors import UsageError
from sage_cli.model.base import ChatModel, Frames, Message, Part, Prompt, Reply, StreamItem, Text
from sage_cli.tools import TOOLS, TranscribeSpeech
from sage_cli.tools.reply import is_json
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
        calls: so far. A reply that the agent asked for again is left out: it could not be used. ``cut`` are those that the token limit
            ended: they have no end of their own.
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
                cut = item.finish == "length"
                text = item.text.removesuffix(more.get("wrap", ("", ""))[1]) if cut else item.text  # which the model did not write
                self.calls.append({"role": role, "step": self.step, "prompt": describe(prompt), "reply": text, "cut": cut})
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


def one_by_one(described: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A prompt with every frame in a slice of its own: so a server reads it, which is sent single images."""

    def part(given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**given, "pairs": False} if "pairs" in given else given

    return [{**message, "parts": [part(given) for given in message["parts"]]} for message in described]


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
    item: Item,
    *,
    count: int,
    temperature: float,
    settings: Settings,
    hear: Hear | None,
) -> list[dict[str, Any]]:
    """A teacher's different trajectories for a question, right or wrong: as the paper's data has them."""
    unique: dict[str, dict[str, Any]] = {}
    video = Video(str(item.path))
    for seed in range(count):
        calls, _ = run_agent(teacher, video, item.question, settings=settings, temperature=temperature, seed=1000 * seed, hear=hear)
        key = json.dumps([call["reply"] for call in calls])
        unique.setdefault(key, {"video_path": str(item.path), "question": item.question, "answer": item.reference, "calls": calls})
    return list(unique.values())


def append(path: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Append to a JSONL in one piece: where one of the lines is there, so are the others. A last line that was cut short is removed first,
    and one without its end is ended."""
    lines = "".join(json.dumps(item) + "\n" for item in items).encode()
    with path.open("a+b") as file:
        if size := file.tell():
            file.seek(size - 1)
        if size and file.read(1) != b"\n":
            last = path.read_bytes().rpartition(b"\n")[2]
            if is_json(last):
                lines = b"\n" + lines
            else:
                file.truncate(size - len(last))
        file.write(lines)


def read(path: Path) -> list[dict[str, Any]]:
    """What :func:`append` wrote, but for a line that was cut short.

    Raises:
        UsageError: there is no such file, or it is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        whole, _, last = text.rpartition("\n")
        return json_lines(text if is_json(last) else whole)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file; the stage before this one writes it") from error
    except ValueError as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
