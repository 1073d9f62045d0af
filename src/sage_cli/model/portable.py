"""A JSON schema in the part of the language that all servers know.

OpenAI and services like it want an object at the root and a type everywhere; they take no alternatives between objects, no optional keys
and no bounds. So alternatives are merged into one object, whose keys are null where an alternative lacks them. The result allows all that
the schema allows, and more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

from sage_cli.model.schemas import both, subschemas

# What only forbids values, or says something about them.
_BOUNDS: Final = frozenset(
    {
        "minLength", "maxLength", "pattern", "format",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
        "contains", "minContains", "maxContains", "propertyNames", "dependentRequired", "dependentSchemas",
        "not", "if", "then", "else", "discriminator",
        "title", "default", "examples", "$schema", "$id", "$comment",
    }
)  # fmt: skip
_TYPES: Final[Mapping[type, str]] = MappingProxyType({str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"})
_NO_ITEM: Final[dict[str, Any]] = {"type": "string"}  # of a list that may be empty only, where some type has to be given
_NULL: Final[dict[str, Any]] = {"type": "null"}


class _AbsentError(Exception):
    """A key would have to be null where it is to be absent."""


def portable(schema: Mapping[str, Any], *, nulls: bool) -> dict[str, Any] | None:
    """The schema, simplified; ``None`` if that is impossible: it refers to parts of itself, or allows more than objects.

    Args:
        nulls: whether a key that is null counts as absent.
    """
    if any("$ref" in part or "$dynamicRef" in part for part in subschemas(schema)):
        return None
    try:
        made = _simple(schema, nulls)
    except _AbsentError:
        return None
    return made if made.get("type") == "object" and "properties" in made else None


def _simple(schema: Any, nulls: bool) -> dict[str, Any]:
    if not isinstance(schema, Mapping):  # true and false
        return {}
    made = {key: value for key, value in schema.items() if key not in _BOUNDS}
    if isinstance(made.get("allOf"), Sequence):
        parts: Sequence[Any] = made.pop("allOf")
        return _simple(reduce(both, parts, made), nulls)
    if "oneOf" in made:  # not more than one of them: that only forbids values, too
        made = {"anyOf": made.pop("oneOf"), **made}
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "enum" in made and "type" not in made:
        made |= _typed(made["enum"])
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = {name: _simple(value, nulls) for name, value in made["properties"].items()}
    if "items" in made:
        made["items"] = _simple(made["items"], nulls) or _NO_ITEM
    if isinstance(made.get("anyOf"), Sequence):
        alternatives = [_simple(one, nulls) for one in made["anyOf"]]
        made = {**made, "anyOf": alternatives} if len(made) > 1 else _merged(alternatives, nulls)
    return made


def _typed(values: Sequence[Any]) -> dict[str, Any]:
    types = {_TYPES.get(type(value)) for value in values}
    return {"type": types.pop()} if len(types) == 1 and None not in types else {}


def _merged(alternatives: Sequence[Mapping[str, Any]], nulls: bool) -> dict[str, Any]:
    """A schema that allows all that these allow: at most one alternative of each type."""
    kinds: dict[Any, Mapping[str, Any]] = {}
    for one in alternatives:
        for part in one["anyOf"] if one.keys() == {"anyOf"} else [one]:
            kind = part.get("type")
            kind = kind if isinstance(kind, str) else id(part)  # of several types, or of none
            kinds[kind] = _either(kinds[kind], part, nulls) if kind in kinds else part
    made = list(kinds.values())
    return dict(made[0]) if len(made) == 1 else {"anyOf": made}


def _either(one: Mapping[str, Any], other: Mapping[str, Any], nulls: bool) -> dict[str, Any]:
    """Of two schemas of the same type."""
    kind: dict[str, Any] = {"type": one["type"]}
    if "enum" in one and "enum" in other:
        return {**kind, "enum": [*one["enum"], *(value for value in other["enum"] if value not in one["enum"])]}
    if items := [schema["items"] for schema in (one, other) if schema.get("items", _NO_ITEM) is not _NO_ITEM]:
        return {**kind, "items": _merged(items, nulls)}
    mine, theirs = one.get("properties"), other.get("properties")
    if not (isinstance(mine, Mapping) and isinstance(theirs, Mapping)):
        return kind
    if mine.keys() != theirs.keys() and not nulls:
        raise _AbsentError
    names = dict.fromkeys([*mine, *theirs])
    properties = {name: _merged([mine.get(name, _NULL), theirs.get(name, _NULL)], nulls) for name in names}
    return {**kind, "properties": properties, "required": list(names), "additionalProperties": False}
