"""Masks, strings and ways out of a schema, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

from sage_cli.errors import ModelError
from sage_cli.model.constrain import Constraint, Mask, check_schema
from tests.agent.scripted import BYTES

TWO = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def test_a_mask_is_a_set_of_tokens() -> None:
    mask = Mask(bytes([0b101, 0, 0x80, 1]))
    assert mask.tokens(32).tolist() == [0, 2, 23, 24]
    assert mask.tokens(24).tolist() == [0, 2, 23]
    assert [token for token in range(32) if token in mask] == [0, 2, 23, 24]
    assert mask.tokens(0).tolist() == []


class Long:
    """A tokenizer with more than bytes: the longest token that fits comes first."""

    tokens = (
        *(bytes([value]) for value in range(256)),
        *(b"<eos>", b' ""', b'", "', b'\\"', b"x\\", b"\\\\", b'\\"y"', b"null", b"false", b"true", b'"]'),
    )
    bos_token_id = eos_token_id = 256
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        left, made = text if isinstance(text, bytes) else text.encode(), []
        while left:
            fitting = [number for number, token in enumerate(self.tokens) if left.startswith(token)]
            made.append(max(fitting, key=lambda number: len(self.tokens[number])))
            left = left[len(self.tokens[made[-1]]) :]
        return made


LONG = LLTokenizer(TokenizerWrapper(Long()))


@pytest.mark.parametrize("tokenizer", [BYTES, LONG], ids=["bytes", "long tokens"])
@pytest.mark.parametrize(
    "texts", [("x", "y"), ('a "quoted" word', "\\"), ("\\\\", '\\"'), ("", ""), ("{[1, 2]}", ',"'), ("\n\t", "caf\u00e9")]
)
def test_strings_are_known_from_the_outside(texts: tuple[str, str], tokenizer: LLTokenizer) -> None:
    text = json.dumps({"a": texts[0], "b": [texts[1], "z"]}, ensure_ascii=False)
    constraint, began, escaped = Constraint(tokenizer, TWO), None, False
    tokens = tokenizer.tokenize_str(text)
    for number, token in enumerate(tokens):
        constraint.accept([token])
        for byte in tokenizer.decode_bytes([token]):
            if byte == ord('"') and not escaped:
                began = number if began is None else None
            escaped = byte == ord("\\") and not escaped
        assert constraint.string == began
        assert constraint.count == number + 1
    assert constraint.complete
    assert constraint.finished
    whole = Constraint(tokenizer, TWO)
    whole.accept(tokenizer.tokenize_str(text[: text.rindex("z")]))  # all at once, up to the last string
    assert whole.string == whole.count - 1


@pytest.mark.parametrize(
    ("schema", "begun", "closed"),
    [
        (TWO, '{"a": "wor', '{"a": "wor", "b": []}'),
        (TWO, '{"a": "", "b": ["1', '{"a": "", "b": ["1"]}'),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, "", "[1, 1, 1]"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, "[12", "[12]"),
        ({"type": "array", "items": {"type": "integer", "maximum": 0, "minimum": -3}, "minItems": 1}, "", "[0]"),
        ({"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 2}, "", '["", ""]'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"a": 5', '{"a": 5}'),
    ],
)
def test_a_reply_that_has_to_end_is_closed_as_soon_as_its_schema_allows(schema: dict[str, Any], begun: str, closed: str) -> None:
    constraint = Constraint(BYTES, schema)
    constraint.accept([*begun.encode()])
    written = [*begun.encode()]
    while not constraint.complete:
        written += constraint.forced()
        if constraint.complete:
            break
        token = constraint.closer(constraint.mask())
        assert token is not None
        constraint.accept([token])
        written.append(token)
    assert bytes(written).decode() == closed


@pytest.mark.parametrize(
    ("kind", "value"), [("boolean", "false"), (["boolean", "null"], "null"), (["integer", "boolean"], "false"), (["string", "null"], '"')]
)
def test_the_shortest_value_closes(kind: Any, value: str) -> None:
    constraint = Constraint(LONG, {"type": kind})
    assert constraint.closer(constraint.mask()) == LONG.tokenize_str(value)[0]
    constraint = Constraint(LONG, {"enum": [True, 7]})
    assert constraint.closer(constraint.mask()) == LONG.tokenize_str("true")[0]


def test_there_is_not_always_a_known_way_out() -> None:
    constraint = Constraint(BYTES, {"type": "boolean"})
    assert constraint.closer(constraint.mask()) is None
    constraint = Constraint(BYTES, {"type": "string", "minLength": 3})
    constraint.accept([ord('"')])
    assert constraint.closer(constraint.mask()) is None  # a bracket would be text


def test_what_is_forced_is_accepted_with_the_text_around_it() -> None:
    constraint = Constraint(BYTES, {"const": [1, {"a": None}]}, ("<json>\n", '\n"end"'))
    forced = bytes(constraint.forced()).decode()
    assert forced == '<json>\n[1, {"a": null}]\n"end"'
    assert constraint.count == len(forced)
    assert constraint.finished
    assert constraint.forced() == []


def test_what_the_schema_forbids_is_an_error() -> None:
    constraint = Constraint(BYTES, TWO)
    with pytest.raises(ModelError, match=r"no reply can be held to the schema: [^\n]{1,300}$"):
        constraint.accept([*b"[]"])
    with pytest.raises(ValueError, match="reply schema: "):
        Constraint(BYTES, {"type": "nonsense"})


LEAST, MOST = -9 * 10**18, (1 << 64) - 1


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        *(({"const": number}, LEAST <= number <= MOST) for number in (LEAST, LEAST - 1, MOST, MOST + 1)),
        *(({"type": "integer", key: LEAST - less}, not less) for key in ("minimum", "exclusiveMinimum") for less in (0, 1)),
        # Regression: these ended the process.
        ({"const": -(1 << 63) + 353}, False),
        ({"type": "integer", "minimum": -1e30, "maximum": -(1 << 63) + 1}, False),
        ({"type": "integer", "multipleOf": MOST + 1}, False),
        ({"enum": [1, {"a": [MOST + 1]}]}, False),
        ({"properties": {"a": {"anyOf": [{"const": [MOST + 1]}, {"const": 1}]}}}, False),
        ({"type": "integer", "title": "x", "default": MOST + 1}, True),
        ({"const": -1e30}, True),
        ({"type": "number", "minimum": 0.5}, True),
    ],
)
def test_whole_numbers_that_are_too_large_are_refused(schema: dict[str, Any], fits: bool) -> None:
    if fits:
        check_schema(schema)
    else:
        with pytest.raises(ValueError, match="is out of range: whole numbers may be from -9000000000000000000 to 18446744073709551615"):
            check_schema(schema)


def test_what_cannot_be_held_to_is_told_on_one_line() -> None:
    with pytest.raises(ValueError, match=r"^nothing satisfies it"):
        check_schema({"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}}, "$ref": "#/$defs/a"})
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        check_schema({"type": "nonsense"})
