"""Prompts and replies for the tests of this room."""

from __future__ import annotations

import numpy as np

from sage_cli.model.base import ChatModel, Delta, Frames, Message, Part, Progress, Prompt, Reply, Text
from sage_cli.video import Frame
from tests.golden import Clip, frames_of
from tests.golden.cases import Messages

SCHEMA = {
    "type": "object",
    "properties": {
        "video_context": {"type": "string", "maxLength": 60},
        "final_answer": {"anyOf": [{"type": "string", "maxLength": 40}, {"type": "null"}]},
        "media_paths": {"type": "array", "items": {"enum": ["f1/0001.jpg", "f1/0002.jpg"]}, "minItems": 1, "maxItems": 4},
    },
    "required": ["video_context", "final_answer", "media_paths"],
    "additionalProperties": False,
}
WRAP = ("<json>\n", "\n</json>")


def clip(count: int, *, family: str, name: str = "clip", first: int = 0) -> tuple[Frame, ...]:
    """Frames half a second apart, 4 by 3 vision tokens large; the same name and number give the same frame."""
    unit = 32 if family == "qwen3-vl" else 28
    rng = np.random.default_rng(sum(name.encode()))
    images = rng.integers(0, 256, (16, 3 * unit, 4 * unit, 3), dtype=np.uint8)
    return tuple(Frame(i / 2, images[i], f"{name}:{i}") for i in range(first, first + count))


def ask(question: str, frames: tuple[Frame, ...] = (), *, pairs: bool = True, system: str = "You are SAGE.") -> Prompt:
    seen: tuple[Part, ...] = (Frames(frames, pairs),) if frames else ()
    return [Message("system", (Text(system),)), Message("user", (*seen, Text(question)))]


def golden_prompt(messages: Messages) -> Prompt:
    def part(given: str | Clip) -> Part:
        if isinstance(given, str):
            return Text(given)
        images = frames_of(given)
        frames = (Frame(t, image, f"{given.seed}:{t}") for t, image in zip(given.times, images, strict=True))
        return Frames(tuple(frames), given.pairs)

    return [Message(role, tuple(map(part, parts))) for role, parts in messages]  # type: ignore[arg-type]


def complete(model: ChatModel, prompt: Prompt, **options: object) -> Reply:
    """The reply, after checking the shape of the stream: progress, text, and the reply last, which is the text put together."""
    *items, reply = model.stream(prompt, **options)  # type: ignore[arg-type]
    assert isinstance(reply, Reply)
    kinds = [type(item) for item in items]
    assert kinds == sorted(kinds, key=[Progress, Delta].index)
    assert "".join(item.text for item in items if isinstance(item, Delta)) == reply.text
    return reply
