"""The wire format that SAGE models speak: two replies, six calls, and the JSON schema of a reply as it may be right now.

Keys, wire names and the shapes of values are those of the trained weights; in which orders keys may come, the prompt pack says, for it
depends on what a checkpoint learned. The wire names of tools appear here and nowhere else; everywhere else a tool goes by the paper's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import from_json

from sage_cli.prompts import Order, Prompts, Style
from sage_cli.tools.base import AnyTool
from sage_cli.tools.reply import json_object
from sage_cli.tools.schema import EMPTY, NULL, Schema, array, constant, either, record, text
from sage_cli.tools.workspace import Workspace

WIRE_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transcribe-speech": "verbal_transcript",
        "ground-event": "identify_timestamps_visually",
        "extract-video-parts": "extract_parts_from_timestamp",
        "analyze": "perform_reasoning",
        "web-search": "unified_web_search",
        "parse-website": "parse_web_data",
    }
)

# Literal text around the JSON of every reply.
WRAP: Final = ("<json>\n", "\n</json>")

# Characters. Twice the longest seen in the published traces of trained models; only there to stop one that does not stop.
_CONTEXT, _INTENT, _REASON, _ANSWER = 2000, 600, 1500, 2000


# ---- replies -------------------------------------------------------------------------------------------------------


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ToolCall(_Wire):
    rationale: str
    name: str
    arguments: dict[str, Any]


class RecommendedTools(_Wire):
    needed: bool
    why_no_tool: str | None
    tool_calls: list[ToolCall]

    @property
    def call(self) -> ToolCall | None:
        """The call to make: the first one, if any was asked for. SAGE runs one tool a step."""
        return self.tool_calls[0] if self.needed and self.tool_calls else None


class ContextReply(_Wire):
    """Stage 1: what the context VLM makes of the sampled frames."""

    video_context: str
    query_intent: str
    final_answer: str | None
    recommended_tools: RecommendedTools


class Answerable(_Wire):
    verdict: bool
    reasoning: str


class ReasonerReply(_Wire):
    """Stage 2: what the iterative reasoner makes of the tool results."""

    answerable: Answerable
    final_answer: str | None
    recommended_tools: RecommendedTools


R = TypeVar("R", ContextReply, ReasonerReply)


# ---- what the model is told about tools ----------------------------------------------------------------------------


def tool_lines(prompts: Prompts, tools: Sequence[AnyTool]) -> str:
    """The tools for the system prompt, one JSON object a line, in the order of the pack."""
    return prompts.tool_lines([WIRE_NAMES[tool.name] for tool in tools])


# ---- the reply as it may be now ------------------------------------------------------------------------------------


def context_schema(tools: Sequence[AnyTool], workspace: Workspace, *, look_again: bool = False) -> Schema:
    """Schema of the first reply: an answer, or one call of one of ``tools``; without tools that can be called, an answer.

    Args:
        look_again: allow calls alone, where there are any.
    """
    style = workspace.prompts.style
    seen = {"video_context": text(_CONTEXT), "query_intent": text(_INTENT)}
    calls = _calls(tools, workspace, style.first_call)
    replies = [{"final_answer": NULL, "recommended_tools": _one_of(calls, style)}] if calls else []
    if not (calls and look_again):
        replies.append({"final_answer": text(_ANSWER), "recommended_tools": _no_call()})
    return either(*(_ordered(order, {**seen, **reply}) for order in style.first for reply in replies))


def reasoner_schema(tools: Sequence[AnyTool], workspace: Workspace, *, last: bool) -> Schema:
    """Schema of a later reply: an answer, or one call.

    In the last step no call could be made any more: the other way out is then a null answer.
    """
    style = workspace.prompts.style
    calls = [] if last else _calls(tools, workspace, style.later_call)

    def reply(verdict: bool, answer: Schema, recommended: Schema) -> dict[str, Schema]:
        answerable = _ordered(style.answerable, {"verdict": constant(verdict), "reasoning": text(_REASON)})
        return {"answerable": answerable, "final_answer": answer, "recommended_tools": recommended}

    replies = [reply(False, NULL, _one_of(calls, style) if calls else _no_call()), reply(True, text(_ANSWER), _no_call())]
    return either(*(_ordered(order, values) for order in style.later for values in replies))


def _ordered(order: Order, values: Mapping[str, Schema]) -> Schema:
    return record(**{key: values[key] for key in order})


def _no_call() -> Schema:
    return record(needed=constant(False), why_no_tool=either(text(_REASON), NULL), tool_calls=EMPTY)


def _calls(tools: Sequence[AnyTool], workspace: Workspace, orders: Sequence[Order]) -> list[Schema]:
    """The calls that can be made now: of each tool one, in each order, with the reason under each name that it may have."""
    reasons = workspace.prompts.style.rationale
    return [
        record(**{reason if key == "rationale" else key: {**values, "rationale": text(_REASON)}[key] for key in order})
        for tool in tools
        if (arguments := tool.schema(workspace)) is not None
        for values in [{"name": constant(WIRE_NAMES[tool.name]), "arguments": arguments}]
        for order in orders
        for reason in reasons
    ]


def _one_of(calls: Sequence[Schema], style: Style) -> Schema:
    reason = either(NULL, text(_REASON)) if style.reason_beside_call else NULL
    return record(needed=constant(True), why_no_tool=reason, tool_calls=array(either(*calls), 1, 1))


# ---- reading -------------------------------------------------------------------------------------------------------


def read(kind: type[R], reply: str) -> R:
    """Read a reply, also one that no schema held: broken JSON, missing keys, an answer that is a list.

    Raises:
        ValueError: there is no JSON object in it.
    """
    data = json_object(reply)
    plain: dict[str, Any] = {
        "final_answer": as_text(data.get("final_answer")),
        "recommended_tools": _recommended(data.get("recommended_tools")),
    }
    if kind is ContextReply:
        plain |= {key: as_text(data.get(key)) or "" for key in ("video_context", "query_intent")}
    else:
        answerable = _mapping(data.get("answerable"))
        plain["answerable"] = {"verdict": _truth(answerable.get("verdict")), "reasoning": as_text(answerable.get("reasoning")) or ""}
    return kind.model_validate(plain)


def _recommended(value: object) -> dict[str, Any]:
    recommended = _mapping(value)
    calls = recommended.get("tool_calls")
    return {
        "needed": _truth(recommended.get("needed")),
        "why_no_tool": as_text(recommended.get("why_no_tool")),
        "tool_calls": [
            {
                "rationale": _rationale(call) or "",
                "name": as_text(call.get("name")) or "",
                "arguments": _arguments(call.get("arguments")),
            }
            for call in (calls if isinstance(calls, list) else [])
            if isinstance(call, dict)
        ],
    }


def _arguments(value: object) -> dict[str, Any]:
    """The arguments of a call; a list of them counts by its first."""
    value = value[0] if isinstance(value, list) and value else value
    return {str(key): item for key, item in _mapping(value).items()}


def _rationale(call: Mapping[Any, Any]) -> str | None:
    """Why a call is made. Trained weights write ``rationing`` or ``reason_id`` for ``rationale``: any key but name and arguments."""
    others = [value for key, value in call.items() if key not in ("name", "arguments", "rationale")]
    return next((value for value in [call.get("rationale"), *others] if isinstance(value, str) and value), None)


def as_text(value: object) -> str | None:
    """An answer, or another value that should have been a string, as one; nothing said is ``None``."""
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


def _mapping(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _truth(value: object) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


# ---- reading while it is written -----------------------------------------------------------------------------------

# The fields for people to read, in the order they are written, and where they lie in the reply.
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
    """Turns the text of a reply, piece by piece, into pieces of its text fields."""

    def __init__(self) -> None:
        self._text = ""
        self._given = dict.fromkeys(_FIELDS, 0)

    def feed(self, piece: str) -> list[tuple[str, str]]:
        """The ``(field, text)`` pieces that became known with this piece of the reply."""
        self._text += piece
        start = self._text.find("{")
        if start < 0:
            return []
        try:
            # What follows the object is ignored in this mode, so the closing tag does no harm.
            reply = from_json(self._text[start:], allow_partial="trailing-strings")
        except ValueError:  # not JSON: the tolerant reader has its turn when the reply is complete
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


def _dig(value: Any, path: tuple[str | int, ...]) -> Any:
    try:
        return reduce(getitem, path, value)
    except (KeyError, IndexError, TypeError):
        return None
