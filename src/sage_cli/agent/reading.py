"""Reads the model's replies. What is not held to a schema comes in many forms; all are read into the one of the wire format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import getitem
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic_core import from_json

from sage_cli.agent.protocol import WIRE_NAMES, ContextReply, ReasonerReply
from sage_cli.tools.reply import closes_thinking, has_begun, json_object, structure, unquoted, without_thinking

R = TypeVar("R", ContextReply, ReasonerReply)

# The keys under which models write the parts of a reply and of a call, those of the wire format first.
_ANSWER: Final = ("final_answer", "answer")
_CALLS: Final = ("recommended_tools", "tool_calls", "tool_call", "function_call", "calls")
_NAME: Final = ("name", "tool", "tool_name", "function")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input", "params")
_NAMELESS: Final = frozenset({"type", "id", "rationale", *_ARGUMENTS})
_IS_NAME: Final = re.compile(r"(?!(?:none|null|no|false|true|yes)\Z)[a-z][\w.-]*", re.IGNORECASE)
_KNOWN: Final = frozenset({"video_context", "query_intent", "answerable", "verdict", *_ANSWER, *_CALLS, *_ARGUMENTS})

_TAG: Final = re.compile(r"</?json>")

# Qwen's own form of calls, around JSON or around tags of its own. One that does not end, ends where the next one begins.
_NATIVE: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_FUNCTION: Final = re.compile(r"<function=([^<>]+)>")
_PARAMETER: Final = re.compile(r"<parameter=([^<>]+)>")


def _squashed(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


# Tools by the paper's names and by their wire names, however these are spelled.
_TOOLS: Final[Mapping[str, str]] = MappingProxyType({_squashed(name): wire for paper, wire in WIRE_NAMES.items() for name in (paper, wire)})


def read(kind: type[R], reply: str) -> R:
    """Parse a reply, even one that was not constrained by a schema: broken JSON, missing or other keys, a list as the answer.

    Raises:
        ValueError: it contains neither a JSON object with a key that is known nor a call.
    """
    data = _data(reply)
    answer, recommended = as_text(_under(_ANSWER, data)), _recommended(data)
    plain: dict[str, Any] = {"final_answer": answer, "found": _told(data.get("found")), "recommended_tools": recommended}
    if kind is ContextReply:
        plain |= {key: as_text(data.get(key)) or "" for key in ("video_context", "query_intent")}
    else:
        given = unquoted(data.get("answerable"))
        answerable = given if isinstance(given, dict) else data if given is None else {"verdict": given}
        verdict = answerable.get("verdict")
        settled = answer is not None and not recommended["needed"] if verdict is None else _truth(verdict)
        plain["answerable"] = {"verdict": settled, "reasoning": as_text(answerable.get("reasoning")) or ""}
    return kind.model_validate(plain)


def prose(reply: str) -> str:
    """The text of a reply that is no attempt at JSON; else empty."""
    said = _TAG.sub("", without_thinking(reply)).strip()
    return "" if "{" in said else said


def as_answer(kind: type[R], text: str) -> R:
    """The reply whose answer is a text."""
    return read(kind, json.dumps({"final_answer": text}))


def _data(reply: str) -> dict[str, Any]:
    """The reply's object. What is written around native calls is what the model has seen."""
    said = without_thinking(reply)
    found = [*_NATIVE.finditer(structure(said))]
    native = [call for match in found for call in _native(said[slice(*match.span(1))])]
    if not native:
        return json_object(said, _KNOWN)
    around = zip([0, *(match.end() for match in found)], [*(match.start() for match in found), len(said)], strict=True)
    rest = "".join(said[begin:end] for begin, end in around).strip()
    try:
        return json_object(rest, _KNOWN) | {"recommended_tools": native}
    except ValueError:
        return {"video_context": rest, "recommended_tools": native}


def _native(body: str) -> Iterator[dict[str, Any]]:
    if function := _FUNCTION.search(body):
        yield {"name": function[1], "arguments": dict(_parameters(body))}
    else:
        with suppress(ValueError):
            yield from _calls(json_object(body, (*_CALLS, *_NAME)))


def _parameters(body: str) -> Iterator[tuple[str, str]]:
    """Names and values of the parameters that end; a reply may be a flood of beginnings or of blanks, so each part is read once."""
    for part in body.split("</parameter>")[:-1]:
        if begun := _PARAMETER.search(part):
            yield begun[1], part[begun.end() :].strip()


def _recommended(data: Mapping[Any, Any]) -> dict[str, Any]:
    """What the reply says about tools: an object, a list of calls, a call, or any of these as text."""
    value = unquoted(_under(_CALLS, data))
    recommended = value if isinstance(value, dict) else {}
    calls = list(_calls(data))
    needed = recommended.get("needed")
    return {
        "needed": bool(calls) if needed is None else _truth(needed),
        "why_no_tool": as_text(recommended.get("why_no_tool")),
        "tool_calls": calls,
    }


def _calls(value: object) -> Iterator[dict[str, Any]]:
    """The calls in a value, in the wire format. Text alone is one if it names a tool, and in a list of calls if it is any name: the model
    is told which tools there are."""
    value = unquoted(value)
    if isinstance(value, str) and _squashed(value) in _TOOLS:
        value = {"name": value}
    if isinstance(value, list):
        for item in value:
            if isinstance(item, str) and _IS_NAME.fullmatch(item.strip()):
                yield from _calls({"name": item})
            elif isinstance(item, dict) and item.keys() <= _NAMELESS and not item.keys().isdisjoint(_ARGUMENTS):
                yield _call(item, "")
            else:
                yield from _calls(item)
    elif isinstance(value, dict):
        if (inner := _under(_CALLS, value)) is not None:
            yield from _calls(inner)
        elif isinstance(function := value.get("function"), dict):  # as OpenAI's API, and as tools are described to the model
            yield from _calls({**value, "function": None, **function})
        elif name := as_text(_under(_NAME, value)):
            yield _call(value, name)


def _call(call: Mapping[Any, Any], name: str) -> dict[str, Any]:
    arguments = _arguments(_under(_ARGUMENTS, call))
    return {"rationale": _rationale(call) or "", "name": _TOOLS.get(_squashed(name), name), "arguments": arguments}


def _arguments(value: object) -> dict[str, Any]:
    """The arguments of a call: an object, the first of a list, or one written as text."""
    value = unquoted(value)
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, dict) else {}


def _rationale(call: Mapping[Any, Any]) -> str | None:
    """The rationale of a call. Trained weights write ``rationing`` or ``reason_id`` for ``rationale``: any key that is no other part."""
    others = [value for key, value in call.items() if key not in ("type", "id", "rationale", *_NAME, *_ARGUMENTS)]
    return next((value for value in [call.get("rationale"), *others] if isinstance(value, str) and value), None)


def _under(keys: Sequence[str], data: Mapping[Any, Any]) -> Any:
    """The first value under one of the keys that says something."""
    return next((data[key] for key in keys if data.get(key) not in (None, "", [], {})), None)


def as_text(value: object) -> str | None:
    """An answer, or another value in place of a string, as a string; ``None`` if empty."""
    match value:
        case None | "null" | "None":
            return None
        case str():
            return value.strip() or None
        case list():
            return ", ".join(filter(None, map(as_text, value))) or None
        case dict():
            return json.dumps(value, ensure_ascii=False)
    return str(value)


def _truth(value: object) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


def _told(value: object) -> bool | None:
    """A truth that may be left open: models also write what they found."""
    value = value.strip().lower() if isinstance(value, str) else value
    return True if value in (True, "true", "yes") else False if value in (False, "false", "no") else None


# ---- reading while it is written -----------------------------------------------------------------------------------

# The fields for people, in the order they are written, and their paths in the reply.
_FIELDS: Final[Mapping[str, tuple[str | int, ...]]] = MappingProxyType(
    {
        "video_context": ("video_context",),
        "query_intent": ("query_intent",),
        "answerable.reasoning": ("answerable", "reasoning"),
        "final_answer": ("final_answer",),
        "why_no_tool": ("recommended_tools", "why_no_tool"),
        "rationale": ("recommended_tools", "tool_calls", 0),
    }
)


class FieldStream:
    """Splits a reply that arrives in pieces into pieces of its text fields. What begins with anything but JSON is thinking, which may hold
    drafts of the reply, as long as none has ended."""

    def __init__(self) -> None:
        self._text = ""
        self._begun = False
        self._given = dict.fromkeys(_FIELDS, 0)

    def feed(self, piece: str) -> list[tuple[str, str]]:
        """The ``(field, text)`` pieces that this piece of the reply completes."""
        self._text += piece
        if not self._begins(piece):
            return []
        start = self._text.find("{")
        if start < 0:
            return []
        try:
            # Text after the object is ignored in this mode, so the closing tag is harmless.
            reply = from_json(self._text[start:], allow_partial="trailing-strings")
        except ValueError:  # not JSON: the tolerant parser takes over when the reply is complete
            return []
        news = []
        for field, path in _FIELDS.items():
            value = _dig(reply, path)
            if isinstance(value, dict):
                value = _rationale(value)
            if isinstance(value, str) and len(value) > self._given[field]:
                news.append((field, value[self._given[field] :]))
                self._given[field] = len(value)
        return news

    def _begins(self, piece: str) -> bool:
        """Whether the reply has begun after its thinking. Thoughts are long: only what is new is searched, and what has ended is dropped.
        So are blanks, of which there may be a flood."""
        if not self._begun:
            if closes_thinking(self._text, piece):
                said = without_thinking(self._text)
                self._text = said if said or closes_thinking(self._text.rstrip(), "") else self._text
            self._text = self._text.lstrip()
            self._begun = has_begun(self._text)
        return self._begun


def _dig(value: Any, path: tuple[str | int, ...]) -> Any:
    try:
        return reduce(getitem, path, value)
    except (KeyError, IndexError, TypeError):
        return None
