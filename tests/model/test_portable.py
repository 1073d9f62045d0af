from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sage_cli.agent.protocol import context_schema, reasoner_schema
from sage_cli.model.portable import portable
from sage_cli.prompts import PACKS, Prompts
from sage_cli.tools import TOOLS, Workspace
from sage_cli.tools.schema import NULL, array, constant, either, one_of, record, text
from sage_cli.video import Video
from tests.agent.scripted import NO_CALL, ScriptedModel, call, context, reasoner


def parts(schema: Any) -> list[dict[str, Any]]:
    """All schemas in a schema."""
    inside = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(part for one in inside for part in parts(one))]


@pytest.mark.parametrize("pack", PACKS)
def test_replies_of_the_protocol_are_objects_with_a_type_everywhere_and_no_bounds(clip_path: Path, pack: str) -> None:
    video = Video(clip_path)
    with Workspace(ScriptedModel(), video, prompts=Prompts(pack)) as workspace:
        names = workspace.add_frames(list(video.frames([1.0, 2.0], (64, 32))))
        workspace.add_clip(1.0, 2.0)
        first, later, none = (
            portable(schema, nulls=True)
            for schema in (context_schema(TOOLS, workspace), reasoner_schema(TOOLS, workspace, last=False), context_schema((), workspace))
        )
    assert first and later and none
    for schema in (first, later, none):
        assert json.loads(json.dumps(schema)) == schema
        assert schema["type"] == "object"
        for part in parts(schema):
            assert ("type" in part) != ("anyOf" in part), part
            assert part.keys() <= {"type", "anyOf", "properties", "required", "additionalProperties", "items", "enum"}
            assert sum(one.get("type") == "object" for one in part.get("anyOf", ())) <= 1
            if part.get("type") == "object":
                assert part["required"] == list(part["properties"])
                assert part["additionalProperties"] is False
    wanted = later["properties"]["recommended_tools"]["properties"]["tool_calls"]["items"]
    absent: dict[str, Any] = dict.fromkeys(wanted["properties"]["arguments"]["required"])
    asked = call("perform_reasoning", **{**absent, "query": "Which?", "media_paths": names[:1]})
    asked["tool_calls"] = [{**dict.fromkeys(wanted["required"]), **asked["tool_calls"][0]}]
    for schema, reply in ((later, reasoner("Red.")), (later, reasoner(None, asked)), (none, context("Red.", NO_CALL))):
        if pack == "general":
            reply |= {"found": reply["final_answer"] is not None}
        Draft202012Validator(schema).validate(reply)


def test_alternatives_are_merged() -> None:
    schema = either(
        record(kind=constant("a"), at=either(NULL, text(9)), more=array(one_of(["x"]), 1, 2)),
        record(kind=constant("b"), at=array(text(3), 0, 1)),
    )
    assert portable(schema, nulls=True) == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["a", "b"]},
            "at": {"anyOf": [{"type": "null"}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "more": {"anyOf": [{"type": "array", "items": {"type": "string", "enum": ["x"]}}, {"type": "null"}]},
        },
        "required": ["kind", "at", "more"],
        "additionalProperties": False,
    }
    assert portable(schema, nulls=False) is None


CAT = {
    "type": "object",
    "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "maximum": 9}},
    "required": ["kind", "lives"],
}
DOG = {
    "type": "object",
    "properties": {"kind": {"const": "dog"}, "lives": {"type": "integer", "minimum": 1}},
    "required": ["kind", "lives"],
}


def test_alternatives_of_which_one_holds_are_alternatives() -> None:
    inside = {"discriminator": {"propertyName": "kind"}, "oneOf": [CAT, DOG]}
    either = {"type": "object", "properties": {"pet": {"anyOf": [CAT, DOG]}}, "required": ["pet"]}
    made = portable({**either, "properties": {"pet": inside}}, nulls=False)
    assert made == portable(either, nulls=False)
    assert made and made["properties"]["pet"]["properties"]["kind"] == {"type": "string", "enum": ["cat", "dog"]}
    assert portable({"oneOf": [CAT, DOG]}, nulls=False) == portable({"anyOf": [CAT, DOG]}, nulls=False)


def test_parts_that_all_hold_are_one_object() -> None:
    named = {"properties": {"name": {"type": "string", "maxLength": 9}}, "required": ["name"], "not": {"required": ["age"]}}
    made = portable({"allOf": [CAT, named, True], "description": "A cat.", "additionalProperties": False}, nulls=False)
    assert made == {
        "type": "object",
        "description": "A cat.",
        "properties": {"kind": {"type": "string", "enum": ["cat"]}, "lives": {"type": "integer"}, "name": {"type": "string"}},
        "required": ["kind", "lives", "name"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "properties": {"inner": {"$ref": "#"}}},
        {"enum": ["yes", "no"]},
        {"anyOf": [{"type": "string"}, {"type": "object", "properties": {}}]},
        {"type": "object"},
        {},
    ],
)
def test_what_is_no_plain_object_stays_as_it_is(schema: dict[str, Any]) -> None:
    before = json.dumps(schema)
    assert portable(schema, nulls=True) is None
    assert json.dumps(schema) == before


def test_names_of_properties_are_no_keywords() -> None:
    schema = {"type": "object", "properties": {"pattern": {"type": "string", "pattern": "a"}, "title": {"type": ["string", "null"]}}}
    made = portable(schema, nulls=False)
    assert made == {"type": "object", "properties": {"pattern": {"type": "string"}, "title": {"type": ["string", "null"]}}}
