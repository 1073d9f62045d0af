"""JSON schemas for the kinds of keywords in the JSON Schema test suite: supported ones, and some unsupported ones."""

from __future__ import annotations

from typing import Any

OBEYED: dict[str, dict[str, Any]] = {
    "type": {"type": ["integer", "boolean", "null"]},
    "any": {},
    "enum": {"enum": ["red", "green", 3, None, {"mixed": [1]}]},
    "const": {"const": {"a": [1, "\u00fc"], "b": False}},
    "properties, required": {
        "type": "object",
        "properties": {"title": {"type": "string"}, "seconds": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["title", "seconds"],
        "additionalProperties": False,
    },
    "additionalProperties": {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
    "patternProperties": {"type": "object", "patternProperties": {"^n_": {"type": "number"}}, "additionalProperties": {"type": "boolean"}},
    "minProperties, maxProperties": {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 3},
    "items": {"type": "array", "items": {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}},
    "prefixItems": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
    "minItems, maxItems": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
    "minimum, maximum": {"type": "integer", "minimum": -7, "maximum": 123},
    "exclusiveMinimum": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "multipleOf": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 1000},
    "minLength, maxLength": {"type": "string", "minLength": 3, "maxLength": 8},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"},
    "format": {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]},
    "anyOf, allOf": {"anyOf": [{"type": "string", "maxLength": 4}, {"allOf": [{"type": "integer"}, {"minimum": 10}, {"maximum": 99}]}]},
    "oneOf": {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "array", "items": {"type": "integer"}, "maxItems": 2}]},
    "$ref, $defs": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/node",
    },
}

# With a word that the message has to name.
REFUSED: dict[str, dict[str, Any]] = {
    "not": {"not": {"type": "string"}},
    "uniqueItems": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    "if": {"if": {"type": "string"}, "then": {"minLength": 3}},
    "contains": {"type": "array", "contains": {"const": 1}},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "^a"}},
}
