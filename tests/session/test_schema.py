"""``--schema``: accepted schemas, and errors for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage_cli.agent.events import Answer
from sage_cli.assets import CLIPS, NANO
from sage_cli.errors import SageError, UsageError
from sage_cli.model.llama import LlamaModel
from sage_cli.session import open_session
from sage_cli.session.schema import read_schema
from tests.openai_server import Served, serve
from tests.schemas import OBEYED, REFUSED


@pytest.mark.parametrize("name", OBEYED)
def test_schemas_of_every_kind(name: str, tmp_path: Path) -> None:
    text = json.dumps(OBEYED[name])
    path = tmp_path / "schema.json"
    path.write_text(text)
    assert read_schema(text) == read_schema(str(path))
    assert read_schema(text).schema == OBEYED[name]


def test_recursion_that_can_end_is_supported() -> None:
    tree = '"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["children"]'
    linked = (
        '"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]'
    )
    for schema in (f"{{{tree}}}", f"{{{linked}}}", '{"anyOf": [{"$ref": "#"}, {"type": "null"}]}', '{"required": ["a"]}'):
        assert read_schema(schema)


@pytest.mark.parametrize("name", REFUSED)
def test_what_answers_cannot_be_held_to_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f'cannot be held to this schema: .*"{name}"'):
        read_schema(json.dumps(REFUSED[name]))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ('{"type": "strin"}', r"not a JSON schema at \$.type"),
        ('{"type": ', "is not JSON"),
        ("{" * 100_000, "is not JSON"),
        ("missing.json", "no such file"),
        ('{"$ref": "https://example.org/schema"}', "a \\$ref leads outside it"),
        ('{"oneOf": [{"type": "number"}, {"type": "integer"}]}', "branches of its oneOf overlap"),
        ('{"type": "string", "pattern": "("}', "not a JSON schema"),
        ('{"enum": []}', "cannot be held|not a JSON schema"),
        ('{"type": "integer", "minimum": 3, "maximum": 1}', "cannot be held"),
        ('{"type": "integer", "minimum": 99999999999999999999}', "99999999999999999999 is out of range"),
        ('{"properties": {"a": {"enum": [{"b": [-99999999999999999999]}]}}}', "-99999999999999999999 is out of range"),
        (r'{"type": "string", "pattern": "\\p{Lu}"}', r"classes such as \\p\{Lu\} are not supported"),
        ('{"items": ' * 150 + "{}" + "}" * 150, "nested too deeply"),
        ('{"$ref": "#"}', "requires itself"),
        ('{"anyOf": [{"$ref": "#"}, {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}]}', "requires itself"),
        ('{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}', "requires itself"),
        ('{"type": "object", "properties": {"a": {"$ref": "#"}}, "allOf": [{"required": ["a"]}]}', "requires itself"),
        (
            '{"type": "object", "additionalProperties": {"$ref": "#"}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}',
            "requires itself",
        ),
        (
            '{"type": ["object", "array"], "additionalProperties": {"$ref": "#"}, "minProperties": 1,'
            ' "minItems": 1, "items": {"$ref": "#"}}',
            "itself",
        ),
        (
            '{"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/c"}]}, "minItems": 2},'
            ' "c": {"type": "object", "additionalProperties": {"$ref": "#/$defs/a~1b"}, "required": ["x"]}}}',
            "requires itself",
        ),
    ],
)
def test_what_is_no_schema(given: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        read_schema(given)
    assert "\n" not in str(refused.value)
    assert "--" not in str(refused.value)  # from Python, too


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_file(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_bytes('{"type": "object", "properties": {"a": {"type": "string"}}}\r\n'.encode(encoding))
    assert read_schema(str(tmp_path / "schema.json"))


def test_files_that_hold_none(tmp_path: Path) -> None:
    for content, kind in ((b"[1]", UsageError), (b"\0" * 10, UsageError), (b"1" * ((1 << 20) + 1), UsageError)):
        path = tmp_path / "schema.json"
        path.write_bytes(content)
        with pytest.raises(kind):
            read_schema(str(path))
    with pytest.raises(SageError):
        read_schema(str(tmp_path))


def test_a_served_model_is_given_the_schema_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    schema = {"type": "object", "properties": {"shape": {"enum": ["star", "circle"]}}, "required": ["shape"], "additionalProperties": False}
    with LlamaModel(NANO.text, NANO.mmproj, context_size=8192, threads=1) as model, serve(Served(model)) as server:
        with open_session(model=server.url, schema=json.dumps(schema), frames=4, tools=False, prompts="nano") as session:
            answer = [*session.ask(CLIPS / "short.mp4", "Which shape appears last?")][-1]
        assert isinstance(answer, Answer)
        assert answer.value["shape"] in ("star", "circle")
        sent = server.requests[-1]
        assert sent["response_format"]["json_schema"]["schema"] == schema
        assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "user"]
