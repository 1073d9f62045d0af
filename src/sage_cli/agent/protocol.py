"""The wire format of SAGE models: two replies, six calls, and the JSON schema of the reply that is valid at this moment.

Keys, wire names and the shapes of values are those of the trained weights. The order of keys depends on the checkpoint; the prompt pack
defines it. The wire names of tools appear only here; everywhere else a tool has the paper's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sage_cli.prompts import Order, Prompts, Style
from sage_cli.tools import TranscribeSpeech
from sage_cli.tools.base import AnyTool
from sage_cli.tools.reply import WRAP
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

# Characters. Twice the longest in the published traces of trained models; a stop for models that do not end.
_CONTEXT, _INTENT, _REASON = 2000, 600, 1500


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
        """The call to make: the first one requested, if any. SAGE runs one tool per step."""
        return self.tool_calls[0] if self.needed and self.tool_calls else None


class _Answering(_Wire):
    """Attributes:
    found: whether the answer gives what was asked, rather than saying that the video does not hold it; ``None`` if the model did not tell.
        Models that were not trained for the agent write it after their answer; trained ones never do.
    """

    found: bool | None = Field(default=None, exclude=True)


class ContextReply(_Answering):
    """Stage 1: the context VLM's reply to the sampled frames."""

    video_context: str
    query_intent: str
    final_answer: str | None
    recommended_tools: RecommendedTools


class Answerable(_Wire):
    verdict: bool
    reasoning: str


class ReasonerReply(_Answering):
    """Stage 2: the iterative reasoner's reply to the tool results."""

    answerable: Answerable
    final_answer: str | None
    recommended_tools: RecommendedTools


# ---- tool descriptions -----------------------------------------------------------------------------------------------


def tool_lines(prompts: Prompts, tools: Sequence[AnyTool]) -> str:
    """The tools for the system prompt, one JSON object per line, in the order of the pack."""
    return prompts.tool_lines([WIRE_NAMES[tool.name] for tool in tools])


# ---- schemas of valid replies --------------------------------------------------------------------------------------


def context_schema(tools: Sequence[AnyTool], workspace: Workspace, *, must_call: bool = False) -> Schema:
    """Schema of the first reply: an answer, or one call of one of ``tools``; an answer if no tool can be called.

    Args:
        must_call: allow only calls, if any tool can be called.
    """
    style = workspace.prompts.style
    seen = {"video_context": text(_CONTEXT), "query_intent": text(_INTENT)}
    first = [tool for tool in tools if tool.name == TranscribeSpeech.name] if workspace.transcript_first else []
    calls = _calls(first or tools, workspace, style.first_call)
    replies = [{**_NO_ANSWER, "recommended_tools": _one_of(calls, style)}] if calls else []
    if not (calls and must_call):
        replies.append({**_answer(style), "recommended_tools": _no_call()})
    return either(*(_ordered(order, {**seen, **reply}) for order in style.first for reply in replies))


def reasoner_schema(tools: Sequence[AnyTool], workspace: Workspace, *, last: bool) -> Schema:
    """Schema of a later reply: an answer, or one call.

    In the last step, a null answer takes the place of the call.
    """
    style = workspace.prompts.style
    calls = [] if last else _calls(tools, workspace, style.later_call)

    def reply(verdict: bool, answer: Mapping[str, Schema], recommended: Schema) -> dict[str, Schema]:
        answerable = _ordered(style.answerable, {"verdict": constant(verdict), "reasoning": text(_REASON)})
        return {"answerable": answerable, **answer, "recommended_tools": recommended}

    no_answer = reply(False, _NO_ANSWER, _one_of(calls, style) if calls else _no_call())
    replies = [no_answer, reply(True, _answer(style), _no_call())]
    return either(*(_ordered(order, values) for order in style.later for values in replies))


def _ordered(order: Order[str], values: Mapping[str, Schema]) -> Schema:
    return record(**{key: values[key] for key in order})


# An answer, and whether it is one; the pack's order says which of the keys there are.
_NO_ANSWER: Final[Mapping[str, Schema]] = MappingProxyType({"final_answer": NULL, "found": constant(False)})


def _answer(style: Style) -> dict[str, Schema]:
    return {"final_answer": text(style.answer_characters), "found": either(constant(True), constant(False))}


def _no_call() -> Schema:
    return record(needed=constant(False), why_no_tool=either(text(_REASON), NULL), tool_calls=EMPTY)


def _calls(tools: Sequence[AnyTool], workspace: Workspace, orders: Sequence[Order[str]]) -> list[Schema]:
    """The calls that can be made now: one per tool, in each key order, with each name of the rationale."""
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


def as_reply(reply: ContextReply | ReasonerReply) -> str:
    """A reply as the model writes it, to continue after it."""
    return f"{WRAP[0]}{json.dumps(reply.model_dump(), ensure_ascii=False)}{WRAP[1]}"
