"""JSON schema building blocks of replies and arguments.

Every string is bounded, so that a model cannot continue forever, and every object has exactly its keys in their order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from sage_cli.timecode import format_clock

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
    high = math.floor(end + 0.5)
    patterns = []
    for digits in range(2, max(2, len(str(high // 3600))) + 1):  # of the hours
        first, last = (0 if digits == 2 else 3600 * 10 ** (digits - 1)), 3600 * 10**digits - 1
        if low <= last:
            patterns.append(_between(format_clock(max(low, first)), format_clock(min(high, last))))
    if low < 3600:
        patterns.append(_between(format_clock(low)[3:], format_clock(min(high, 3599))[3:]))
    return {"type": "string", "pattern": f"^({'|'.join(patterns)})$"}


def _between(low: str, high: str) -> str:
    """Regular expression of the clock times from ``low`` to ``high``, both included, which are as long as each other."""
    if low == high:
        return low
    if same := next(number for number, pair in enumerate(zip(low, high, strict=True)) if pair[0] != pair[1]):
        return f"{low[:same]}({_between(low[same:], high[same:])})"
    # The first and the last of all rests as long as these: the digit after a colon is that of tens.
    first, last = re.sub(r"\d", "0", low[1:]), re.sub(r"(?<=:)\d", "5", re.sub(r"\d", "9", low[1:]))
    head, tail = int(low[0]) + (low[1:] != first), int(high[0]) - (high[1:] != last)  # first digits that every rest may follow
    parts = [f"{low[0]}({_between(low[1:], last)})"] if head > int(low[0]) else []
    parts += [f"[{head}-{tail}]" + last.replace("9", "[0-9]").replace("5", "[0-5]")] if head <= tail else []
    parts += [f"{high[0]}({_between(first, high[1:])})"] if tail < int(high[0]) else []
    return "|".join(parts)
