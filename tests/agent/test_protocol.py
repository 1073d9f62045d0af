from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher

from sage_cli.agent.protocol import (
    WIRE_NAMES,
    ContextReply,
    as_reply,
    context_schema,
    reasoner_schema,
    tool_lines,
)
from sage_cli.errors import ModelError
from sage_cli.prompts import PACKS, Prompts
from sage_cli.speech.segment import Progress
from sage_cli.speech.subtitles import Subtitles
from sage_cli.tools import TOOLS, Workspace, web_tools
from sage_cli.tools.reply import WRAP
from sage_cli.tools.schema import Schema
from sage_cli.video import Video
from sage_cli.web import Web, WebSettings
from tests.agent.scripted import BYTES, NO_CALL, ScriptedModel, accepts, call, context, general, later, reasoner
from tests.media import make_video, tone

WHERE = {"video_path": "holiday.mp4", "timestamp_start": "00:05", "timestamp_end": "00:00:15"}
TRANSCRIBE = call("verbal_transcript", **WHERE)
LOOK = call("perform_reasoning", query="Which?", media_paths=["holiday.mp4"])


def allows(schema: Schema, reply: Any) -> bool:
    return accepts(schema, WRAP[0] + json.dumps(reply) + WRAP[1], WRAP)


# ---- tool descriptions ---------------------------------------------------------------------------------------------


def test_tools_are_described_one_a_line_in_the_wire_format() -> None:
    first, *lines, last = tool_lines(Prompts(), TOOLS).split("\n")
    assert (first, last) == ("<tools>", "</tools>")
    described = [json.loads(line) for line in lines]
    assert [tool["function"]["name"] for tool in described] == [
        "verbal_transcript",
        "identify_timestamps_visually",
        "extract_parts_from_timestamp",
        "perform_reasoning",
    ]
    extract = described[2]
    assert list(extract) == ["type", "function"]
    assert extract["type"] == "function"
    assert list(extract["function"]) == ["name", "description", "parameters"]
    parameters = extract["function"]["parameters"]
    assert list(parameters) == ["type", "properties", "required"]
    assert parameters["required"] == ["video_path", "timestamp_start", "timestamp_end"]
    assert list(parameters["properties"]) == ["video_path", "timestamp_start", "timestamp_end", "extract_type"]
    assert list(parameters["properties"]["extract_type"]) == ["type", "description", "default"]
    assert list(parameters["properties"]["video_path"]) == ["type", "description"]
    assert described[3]["function"]["parameters"]["properties"]["media_paths"]["type"] == "any"


@pytest.mark.parametrize("pack", PACKS)
def test_every_pack_describes_the_arguments_that_tools_have(pack: str, tmp_path: Path) -> None:
    tools = (*TOOLS, *web_tools(Web(WebSettings(), tmp_path)))
    lines = tool_lines(Prompts(pack), tools).split("\n")[1:-1]
    described = {(function := json.loads(line)["function"])["name"]: function["parameters"] for line in lines}
    assert described.keys() == {*WIRE_NAMES.values()}
    for tool in tools:
        parameters = described[WIRE_NAMES[tool.name]]
        fields = tool.arguments.model_fields
        assert parameters["properties"].keys() == fields.keys()
        defaults = {name: told["default"] for name, told in parameters["properties"].items() if "default" in told}
        assert defaults == {name: field.default for name, field in fields.items() if name not in parameters["required"]}
        assert {name for name, field in fields.items() if field.is_required()} <= set(parameters["required"])


def test_every_tool_has_a_wire_name_of_its_own() -> None:
    assert {tool.name for tool in TOOLS} <= WIRE_NAMES.keys()
    assert len(set(WIRE_NAMES.values())) == len(WIRE_NAMES) == 6


# ---- schemas -------------------------------------------------------------------------------------------------------


def test_schemas_are_ones_that_llguidance_supports(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        for _ in range(12):
            workspace.add_frames(list(video.frames([1.0, 2.0], (64, 32))))
        workspace.add_clip(1.0, 2.0)
        for schema in (
            context_schema(TOOLS, workspace),
            context_schema((), workspace),
            reasoner_schema(TOOLS, workspace, last=False),
            reasoner_schema(TOOLS, workspace, last=True),
        ):
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
            assert LLMatcher.validate_grammar_with_warnings(grammar, BYTES) == (False, [])


def test_what_trained_models_write_is_allowed(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        names = workspace.add_frames(list(video.frames([1.0, 2.0], (64, 32))))
        first = context_schema(TOOLS, workspace)
        later = reasoner_schema(TOOLS, workspace, last=False)
        last = reasoner_schema(TOOLS, workspace, last=True)
    calls = [
        TRANSCRIBE,
        call("identify_timestamps_visually", video_path="holiday.mp4", event="a dog", timestamp_start="00:05", timestamp_end="00:15"),
        call("extract_parts_from_timestamp", **WHERE, extract_type="frames"),
        call("perform_reasoning", query="Which colour?", media_paths=names),
    ]
    for recommended in calls:
        assert allows(first, context(None, recommended))
        assert allows(later, reasoner(None, recommended))
        assert not allows(last, reasoner(None, recommended))
    for schema, reply in ((first, context("Red.")), (later, reasoner("Red.")), (last, reasoner("Red.")), (last, reasoner(None))):
        assert allows(schema, reply)
        reply["recommended_tools"] = {**NO_CALL, "why_no_tool": "It can be seen."}
        assert allows(schema, reply)


def changed(reply: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    reply = copy.deepcopy(reply)
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    target: Any = reply
    for key in keys:
        target = target[key]
    target[last] = value
    return reply


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("final_answer", "Red."),
        ("final_answer", ["Red."]),
        ("recommended_tools", None),
        ("recommended_tools.needed", False),
        ("recommended_tools.tool_calls", []),
        ("recommended_tools.tool_calls", TRANSCRIBE["tool_calls"] * 2),
        ("recommended_tools.tool_calls.0.name", "unified_web_search"),
        ("recommended_tools.tool_calls.0.rationale", ""),
        ("recommended_tools.tool_calls.0.arguments.video_path", "/etc/passwd"),
        ("recommended_tools.tool_calls.0.arguments.timestamp_end", "00:31"),
        ("recommended_tools.tool_calls.0.arguments.timestamp_end", 12),
        ("recommended_tools.tool_calls.0.arguments.extra", 1),
        ("video_context", "x" * 2001),
    ],
)
def test_what_cannot_be_is_forbidden(video: Video, path: str, value: Any) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        schema = context_schema(TOOLS, workspace)
    reply = context(None, TRANSCRIBE)
    assert allows(schema, reply)
    assert not allows(schema, changed(reply, path, value))


@pytest.mark.parametrize(
    ("stage", "reply", "path", "limit"),
    [
        ("first", context("Red."), "video_context", 2000),
        ("first", context("Red."), "query_intent", 600),
        ("first", context("Red."), "final_answer", 2000),
        ("first", context("Red."), "recommended_tools.why_no_tool", 1500),
        ("first", context(None, TRANSCRIBE), "recommended_tools.tool_calls.0.rationale", 1500),
        ("first", context(None, TRANSCRIBE), "recommended_tools.why_no_tool", 1500),
        ("later", reasoner("Red."), "answerable.reasoning", 1500),
    ],
)
def test_texts_have_a_limit(video: Video, stage: str, reply: dict[str, Any], path: str, limit: int) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        schema = context_schema(TOOLS, workspace) if stage == "first" else reasoner_schema(TOOLS, workspace, last=False)
    assert [allows(schema, changed(reply, path, "x" * length)) for length in (limit, limit + 1)] == [True, False]


def test_the_verdict_goes_with_the_answer(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        for last in (False, True):
            schema = reasoner_schema(TOOLS, workspace, last=last)
            assert not allows(schema, changed(reasoner("Red."), "answerable.verdict", False))
            assert not allows(schema, changed(reasoner(None), "answerable.verdict", True))
            assert not allows(schema, reasoner("Red.", TRANSCRIBE))
            assert allows(schema, reasoner(None)) == last
            assert not allows(schema, changed(reasoner(None), "recommended_tools.needed", True))
        assert allows(reasoner_schema((), workspace, last=False), reasoner(None))


def test_the_first_reply_can_be_made_to_be_a_call(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        for tools, may_answer in ((TOOLS, False), ((), True)):
            schema = context_schema(tools, workspace, must_call=True)
            assert allows(schema, context("Red.")) == may_answer
            assert allows(schema, context(None, TRANSCRIBE)) != may_answer


@pytest.mark.parametrize(
    ("pack", "names", "orders"),
    [
        ("sage-mm", {"rationale", "rationing", "reason_id"}, [("reason", "name", "arguments"), ("name", "arguments", "reason")]),
        ("general", {"rationale"}, [("reason", "name", "arguments")]),
    ],
)
def test_calls_are_written_as_in_the_training_of_the_model(video: Video, pack: str, names: set[str], orders: list[tuple[str, ...]]) -> None:
    with Workspace(ScriptedModel(), video, prompts=Prompts(pack)) as workspace:
        schemas = context_schema(TOOLS[1:], workspace), reasoner_schema(TOOLS[1:], workspace, last=False)
    (made,) = LOOK["tool_calls"]
    replies: tuple[Callable[..., dict[str, Any]], ...] = (context, reasoner) if pack == "sage-mm" else (general, later)
    for schema, reply in zip(schemas, replies, strict=True):
        for name in ("rationale", "rationing", "reason_id", "reason"):
            values = {**made, name: "to see"}
            for order in (("reason", "name", "arguments"), ("name", "arguments", "reason"), ("name", "reason", "arguments")):
                written = {key if key != "reason" else name: values[key if key != "reason" else name] for key in order}
                told = reply(None, {**LOOK, "tool_calls": [written]})
                assert allows(schema, told) == (name in names and order in orders)
                told["recommended_tools"]["why_no_tool"] = "It is seen."
                assert allows(schema, told) == (name in names and order in orders and pack == "sage-mm")


def test_a_reply_is_handed_back_as_the_model_writes_it() -> None:
    told = {**context("Caf\u00e9.", seen="\u4e16"), "found": True}
    assert (
        as_reply(ContextReply.model_validate(told))
        == WRAP[0] + json.dumps(context("Caf\u00e9.", seen="\u4e16"), ensure_ascii=False) + WRAP[1]
    )


def test_keys_come_in_the_order_of_the_protocol(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        schema = context_schema(TOOLS, workspace)
    reply = context("Red.")
    assert not allows(schema, dict(reversed(reply.items())))
    assert not accepts(schema, WRAP[0] + json.dumps(reply, indent=1) + WRAP[1], WRAP)


def test_without_tools_there_is_only_an_answer(video: Video) -> None:
    with Workspace(ScriptedModel(), video) as workspace:
        schema = context_schema((), workspace)
    assert "'anyOf': []" not in str(schema)  # servers may refuse what nothing satisfies
    assert allows(schema, context("Red."))
    assert not allows(schema, context(None))
    assert not allows(schema, context(None, TRANSCRIBE))


# ---- general-purpose models ----------------------------------------------------------------------------------------


def test_a_general_model_decides_before_it_answers_and_hears_a_short_video_first(video: Video) -> None:
    workspace = Workspace(ScriptedModel(), video, prompts=Prompts("general"))
    schema = context_schema(TOOLS, workspace)
    whole = call("verbal_transcript", video_path="holiday.mp4", timestamp_start="00:00:00", timestamp_end="00:00:30")
    assert allows(schema, general(None, whole))
    assert allows(schema, general("Red."))
    assert allows(schema, general("It is not shown.", found=False))
    assert not allows(schema, {**general("Red."), "found": None})
    assert not allows(schema, {**general(None, whole), "found": True})
    assert not allows(schema, context("Red."))
    assert not allows(schema, general(None, TRANSCRIBE))
    analyze = call("perform_reasoning", query="Which?", media_paths=["holiday.mp4"])
    assert not allows(schema, general(None, analyze))
    deaf = [tool for tool in TOOLS if tool.name != "transcribe-speech"]
    assert allows(context_schema(deaf, workspace), general(None, analyze))
    for last in (False, True):
        schema = reasoner_schema(TOOLS, workspace, last=last)
        assert allows(schema, later(None, analyze)) != last
        assert allows(schema, later("Red."))
        assert allows(schema, later("It is not shown.", found=False))


def test_a_general_model_chooses_windows_of_a_long_video(tmp_path: Path) -> None:
    long = Video(make_video(tmp_path / "holiday.mp4", times=[0, 1000], size=(64, 48), audio=tone(1, rate=8000), audio_rate=8000))
    schema = context_schema(TOOLS, Workspace(ScriptedModel(), long, prompts=Prompts("general")))
    assert allows(schema, general(None, TRANSCRIBE))
    assert allows(schema, general(None, LOOK))


class Known:
    """Has the transcript of all before a time in its cache."""

    source = "a script"

    def __init__(self, until: float) -> None:
        self.until = until

    def is_cached(self, start: float, end: float) -> bool:
        return end <= self.until

    def parts(self, start: float, end: float) -> Iterator[Progress]:
        raise AssertionError("nothing is to be heard here")


def broken() -> Known:
    raise ModelError("the speech model is broken")


@pytest.mark.parametrize("pack", ["general", "sage-mm"])
@pytest.mark.parametrize(
    ("given", "exists"),
    [
        ({"subtitles": Subtitles("talk.srt", "en", False, list)}, True),
        ({"transcriber": lambda: Known(1001.0)}, True),
        ({"transcriber": lambda: Known(900.0)}, False),
        ({"transcriber": broken}, False),  # that is told when it is needed
    ],
)
def test_a_general_model_reads_a_transcript_first_where_there_is_one(
    tmp_path: Path, pack: str, given: Mapping[str, Any], *, exists: bool
) -> None:
    long = Video(make_video(tmp_path / "holiday.mp4", times=[0, 1000], size=(64, 48), audio=tone(1, rate=8000), audio_rate=8000))
    schema = context_schema(TOOLS, Workspace(ScriptedModel(), long, prompts=Prompts(pack), **given))
    reply = general if pack == "general" else context
    assert allows(schema, reply(None, TRANSCRIBE))  # of any part
    assert allows(schema, reply(None, LOOK)) != (exists and pack == "general")
