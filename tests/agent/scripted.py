"""Models for tests of the loop's logic: one plays given replies, one writes anything that the schema allows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llguidance import LLTokenizer

from sage_cli.errors import ModelError
from sage_cli.model.base import Delta, Finish, Frames, ModelInfo, Progress, Prompt, Reply, StreamItem, Text, Usage
from sage_cli.model.constrain import Constraint
from sage_cli.tools.reply import WRAP

# Every byte is a token: whatever a grammar allows can be written, and nothing else decides what is.
BYTES = LLTokenizer("byte")

PATCH = 32


@dataclass(frozen=True)
class Asked:
    """One call of the model."""

    prompt: Prompt
    schema: Mapping[str, Any] | None
    wrap: tuple[str, str]
    max_tokens: int
    temperature: float
    seed: int

    @property
    def texts(self) -> list[str]:
        """The texts of all messages, in order."""
        return [part.text for message in self.prompt for part in message.parts if isinstance(part, Text)]

    @property
    def frames(self) -> list[Frames]:
        return [part for message in self.prompt for part in message.parts if isinstance(part, Frames)]


class TestModel:
    """What the two have in common. A token is a character of text, or 32x32 pixels of a frame pair."""

    __test__ = False

    def __init__(self, context_size: int = 1_000_000) -> None:
        self.info = ModelInfo("scripted", "qwen3-vl", context_size, "CPU", "CPU")
        self.asked: list[Asked] = []
        self.prefetched: list[Prompt] = []

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
        assert width > 0
        assert height > 0
        return (2 * PATCH, PATCH) if max_tokens is None else (PATCH, PATCH)

    def count_tokens(self, prompt: Prompt) -> int:
        asked = Asked(prompt, None, ("", ""), 0, 0.0, 0)
        images = sum(
            (len(part.frames) + part.pairs) // (1 + part.pairs) * part.frames[0].width // PATCH for part in asked.frames if part.frames
        )
        return sum(map(len, asked.texts)) + images

    def prefetch(self, prompt: Prompt) -> None:
        self.prefetched.append(prompt)

    def forget(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def stream(
        self,
        prompt: Prompt,
        *,
        schema: Mapping[str, Any] | None = None,
        wrap: tuple[str, str] = ("", ""),
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generator[StreamItem]:
        asked = Asked(prompt, schema, wrap, max_tokens, temperature, seed)
        tokens = self.count_tokens(prompt)
        assert tokens + max_tokens <= self.info.context_size, "the prompt and the reply must fit the context"
        self.asked.append(asked)
        yield Progress("prefill", tokens, tokens)
        text = self.reply(asked)
        for at in range(0, len(text), 7):
            yield Delta(text[at : at + 7])
        usage = Usage(prompt_tokens=tokens, output_tokens=len(text))
        if isinstance(text, Stopped):
            yield Reply(text, text.finish, usage, closing=text.closing)
        else:
            yield Reply(text, "length" if len(text) > max_tokens else "stop", usage)

    def reply(self, asked: Asked) -> str:
        raise NotImplementedError


class Stopped(str):
    """A reply that was stopped, and closed by force.

    Args:
        at: where the text begins that only closes it; the end by default.
    """

    __slots__ = ("closing", "finish")
    finish: Finish
    closing: str

    def __new__(cls, text: str | Mapping[str, Any], finish: Finish = "loop", at: str = "", wrap: tuple[str, str] = WRAP) -> Stopped:
        made = super().__new__(cls, text if isinstance(text, str) else f"{wrap[0]}{json.dumps(text, ensure_ascii=False)}{wrap[1]}")
        made.finish, made.closing = finish, made[made.rindex(at) :] if at else ""
        return made


Line: TypeAlias = "str | Mapping[str, Any] | Callable[[Asked], str | Mapping[str, Any]]"


class ScriptedModel(TestModel):
    """Plays the given replies, one a call. Objects are wrapped as asked for; they have to satisfy the schema unless ``strict`` is off."""

    def __init__(self, *script: Line, context_size: int = 1_000_000, strict: bool = True) -> None:
        super().__init__(context_size)
        self.script = list(script)
        self.strict = strict

    def reply(self, asked: Asked) -> str:
        line = self.script.pop(0)
        said = line(asked) if callable(line) else line
        text = said if isinstance(said, str) else f"{asked.wrap[0]}{json.dumps(said, ensure_ascii=False)}{asked.wrap[1]}"
        if self.strict and asked.schema is not None:
            assert accepts(asked.schema, text, asked.wrap), f"the schema forbids {text}"
        return text


class RandomModel(TestModel):
    """An untrained model: writes at random what the schema allows, and noise where there is none."""

    def __init__(self, seed: int, context_size: int = 200_000) -> None:
        super().__init__(context_size)
        self.random = random.Random(seed)

    def reply(self, asked: Asked) -> str:
        if asked.schema is None:
            return "".join(self.random.choices(' abc{}"<json>\n\u00e9\u4e16', k=40))
        return walk(asked.schema, self.random, asked.wrap)


def accepts(schema: Mapping[str, Any], text: str, wrap: tuple[str, str] = ("", "")) -> bool:
    """Whether the text is a complete reply under the schema, as local models are held to it."""
    constraint = Constraint(BYTES, schema, wrap)
    try:
        constraint.accept(list(text.encode()))
    except ModelError:
        return False
    return constraint.finished or BYTES.eos_token in constraint.mask()


def walk(schema: Mapping[str, Any], rng: random.Random, wrap: tuple[str, str] = ("", "")) -> str:
    """A random reply under the schema."""
    constraint = Constraint(BYTES, schema, wrap)
    written: list[int] = []
    while not constraint.finished:
        forced = constraint.forced()
        written += forced
        if forced or constraint.finished:
            continue
        allowed = constraint.mask().tokens(BYTES.vocab_size).tolist()
        # Every string would run to its limit if its end were but one byte of 256.
        quote = ord('"')
        token = quote if quote in allowed and rng.random() < 0.1 else rng.choice(allowed)
        constraint.accept([token])
        written.append(token)
    return bytes(token for token in written if token < 256).decode()


# ---- replies -------------------------------------------------------------------------------------------------------


def call(name: str, rationale: str = "to find out", **arguments: Any) -> dict[str, Any]:
    return {"needed": True, "why_no_tool": None, "tool_calls": [{"rationale": rationale, "name": name, "arguments": arguments}]}


NO_CALL: dict[str, Any] = {"needed": False, "why_no_tool": None, "tool_calls": []}


def context(answer: str | None = None, recommended: Mapping[str, Any] = NO_CALL, seen: str = "A red car.") -> dict[str, Any]:
    return {"video_context": seen, "query_intent": "To know.", "final_answer": answer, "recommended_tools": recommended}


def reasoner(answer: str | None = None, recommended: Mapping[str, Any] = NO_CALL, reasoning: str = "It is so.") -> dict[str, Any]:
    return {
        "answerable": {"verdict": answer is not None, "reasoning": reasoning},
        "final_answer": answer,
        "recommended_tools": recommended,
    }


def general(answer: str | None, recommended: Mapping[str, Any] = NO_CALL, seen: str = "A man.", found: bool = True) -> dict[str, Any]:
    """A first reply of a general model; ``found``: the answer gives what was asked."""
    return {"video_context": seen, "query_intent": "To know.", "recommended_tools": recommended, **_said(answer, found)}


def later(answer: str | None, recommended: Mapping[str, Any] = NO_CALL, found: bool = True) -> dict[str, Any]:
    """A later reply of a general model."""
    answerable = {"reasoning": "'Look at that.'", "verdict": answer is not None}
    return {"answerable": answerable, "recommended_tools": recommended, **_said(answer, found)}


def _said(answer: str | None, found: bool) -> dict[str, Any]:
    return {"final_answer": answer, "found": found and answer is not None}
