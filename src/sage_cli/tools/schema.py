"""JSON schema building blocks of replies and arguments.

Every string is bounded, so that a model cannot continue forever, and every object has exactly its keys in their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

NULL: Schema = {"type": "null"}
EMPTY: Schema = {"type": "array", "items": {}, "maxItems": 0}


def record(**properties: Schema) -> Schema:
    """An object with these keys in this order, all required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def text(limit: int) -> Schema:
    """A string of 1 to ``limit`` characters."""
    return {"type": "string", "minLength": 1, "maxLength": limit}


def whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def constant(value: str | bool) -> Schema:
    return {"const": value}


def one_of(values: Iterable[str]) -> Schema:
    return {"enum": list(values)}


def array(item: Schema, low: int, high: int) -> Schema:
    return {"type": "array", "items": item, "minItems": low, "maxItems": high}


def either(*schemas: Schema) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


# ---- times ---------------------------------------------------------------------------------------------------------


def clock(start: float, end: float) -> Schema:
    """A time of day ``HH:MM:SS``, or ``MM:SS`` below an hour, between two times in seconds.

    Both forms, because models trained on SAGE's data write the short one regardless of instructions: forced to write three fields, they
    put the minutes in place of the hours.
    """
    low = math.floor(start)
    high = max(low, math.floor(end + 0.5))
    patterns = [_between(_fields(low), _fields(high))]
    if low < 3600:
        patterns.append(_between(_fields(low)[1:], _fields(min(high, 3599))[1:]))
    return {"type": "string", "pattern": f"^({'|'.join(patterns)})$"}


def _fields(seconds: int) -> tuple[int, ...]:
    return (seconds // 3600, seconds // 60 % 60, seconds % 60)


def _between(low: tuple[int, ...], high: tuple[int, ...]) -> str:
    """Regular expression of the clock times from ``low`` to ``high``, both included, as two-digit fields joined by colons."""
    if len(low) == 1:
        return _digits(low[0], high[0])
    first, last = (0,) * (len(low) - 1), (59,) * (len(low) - 1)
    if low[0] == high[0]:
        return f"{_digits(low[0], low[0])}:{_group(_between(low[1:], high[1:]))}"
    head, tail = low[0] + (low[1:] != first), high[0] - (high[1:] != last)
    parts = [f"{_digits(low[0], low[0])}:{_group(_between(low[1:], last))}"] if head > low[0] else []
    parts += [f"{_group(_digits(head, tail))}:{_group(_between(first, last))}"] if head <= tail else []
    parts += [f"{_digits(high[0], high[0])}:{_group(_between(first, high[1:]))}"] if tail < high[0] else []
    return "|".join(parts)


def _digits(low: int, high: int) -> str:
    """Regular expression of the two-digit numbers from ``low`` to ``high``, both included."""
    parts: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for tens in range(low // 10, high // 10 + 1):
        units = (max(low - 10 * tens, 0), min(high - 10 * tens, 9))
        if parts and units == (0, 9) and parts[-1][1] == units:
            parts[-1] = ((parts[-1][0][0], tens), units)
        else:
            parts.append(((tens, tens), units))
    return "|".join(_digit(*tens) + _digit(*units) for tens, units in parts)


def _digit(low: int, high: int) -> str:
    return str(low) if low == high else f"[{low}-{high}]"


def _group(pattern: str) -> str:
    return f"({pattern})" if "|" in pattern else pattern
