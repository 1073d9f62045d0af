"""Parts of JSON schemas, and whether one that refers to itself has a finite value: llguidance finds out only while it writes one."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from functools import reduce
from typing import Any
from urllib.parse import unquote


def satisfiable(schema: Mapping[str, Any]) -> bool:
    """Whether a finite value can satisfy it. References count as endless until what they refer to is found to have an end."""
    targets = {ref: _target(schema, ref) for part in subschemas(schema) if isinstance(ref := part.get("$ref"), str)}
    endless = {ref for ref, target in targets.items() if target is not None}
    while ended := {ref for ref in endless if _ends(targets[ref], endless)}:
        endless -= ended
    return _ends(schema, endless)


def _target(schema: Any, ref: str) -> Any:
    """What a JSON pointer refers to; ``None`` for other references and for nothing."""
    if ref != "#" and not ref.startswith("#/"):
        return None
    for name in unquote(ref).split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        try:
            schema = schema[int(name) if isinstance(schema, list) else name]
        except (LookupError, ValueError, TypeError):
            return None
    return schema


def _ends(schema: Any, endless: Container[str]) -> bool:
    """Whether some value of the schema needs none of the endless references."""
    if not isinstance(schema, dict):
        return schema is not False
    if "const" in schema or "enum" in schema:
        return True
    if _refers(schema, endless):
        return False
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return any(_ends(both(_without(schema, key), part), endless) for part in schema[key])
    if parts := schema.get("allOf"):
        return not any(_refers(part, endless) for part in parts) and _ends(reduce(both, parts, _without(schema, "allOf")), endless)
    kinds = schema.get("type", "null")  # of any type: null is finite
    return any(all(_ends(part, endless) for part in _needed(schema, kind)) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _needed(schema: Mapping[str, Any], kind: str) -> list[Any]:
    """The schemas of the parts that every value of this type has; where a part may have one of several, their alternative."""
    if kind == "object":
        properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        others = bool(patterns) or schema.get("additionalProperties", True)
        needed = [properties.get(name, others) for name in schema.get("required", ())]
        if not needed and schema.get("minProperties", 0) > 0:
            return [{"anyOf": [*properties.values(), *patterns.values(), others]}]
        return needed
    if kind == "array" and (count := int(schema.get("minItems", 0))):
        first, others = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(others, list):  # as older drafts write prefixItems
            first, others = others, schema.get("additionalItems", True)
        return [*first[:count], *([others] if count > len(first) else [])]
    return []


def _refers(schema: Any, endless: Container[str]) -> bool:
    return isinstance(schema, dict) and schema.get("$ref") in endless


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def both(one: Any, other: Any) -> Any:
    """A schema that allows all that satisfies both, and maybe more."""
    if one is False or other is False:
        return False
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if isinstance(one, dict) else other
    properties = {**one.get("properties", {}), **other.get("properties", {})}
    required = [*dict.fromkeys([*one.get("required", ()), *other.get("required", ())])]
    objects = {name: value for name, value in (("properties", properties), ("required", required)) if name in one or name in other}
    return {**one, **other, **objects}


def subschemas(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects that a schema consists of; values of ``const`` and the like are among them."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from subschemas(part)
