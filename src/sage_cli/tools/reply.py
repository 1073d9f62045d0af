"""Finds what a model's reply says, even one that was not constrained by a schema: after its thinking, in any wrapping, in broken JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

import json_repair

from sage_cli.text import standard_json

# As Qwen, GLM and MiMo write it, and as Kimi does.
_THOUGHT: Final = re.compile(r"[<◁]think(?:ing)?[>▷].*?[<◁]/think(?:ing)?[>▷]", re.DOTALL)
_OPENING: Final = re.compile(r"\s*[<◁]think(?:ing)?[>▷]")
_CLOSING: Final = re.compile(r"[<◁]/think(?:ing)?[>▷]")

_WRAPPED: Final = (re.compile(r"<json>(.*?)(?:</json>|\Z)", re.DOTALL), re.compile(r"```(?:json)?(.*?)(?:```|\Z)", re.DOTALL))
_DECODER: Final = json.JSONDecoder()
_BRACES: Final = 30  # of a text, after which an object is looked for


def without_thinking(reply: str) -> str:
    """What a reply says after its thinking; nothing if the thinking does not end. Some chat templates open it before the reply begins."""
    said = _CLOSING.split(_THOUGHT.sub("", reply))[-1]
    return "" if _OPENING.match(said) else said


def json_object(reply: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """The JSON object of a reply: between ``<json>`` tags, in a code fence, or bare; broken JSON is repaired. Of a list, the first item.

    Args:
        keys: of which it has at least one, to know it from other text in braces; any object without them. Of several objects, the last.

    Raises:
        ValueError: there is none, or it holds what :func:`standard_json` refuses.
    """
    said = without_thinking(reply)
    # In JSON alone, tags and fences are words.
    bodies = [] if said.lstrip().startswith("{") else [body for pattern in _WRAPPED for body in reversed(pattern.findall(said))]
    try:
        for body in [*bodies, said]:
            if found := _last(body, keys):
                value: dict[str, Any] = standard_json(found)
                return value
    except RecursionError as error:
        raise ValueError("the reply is nested too deeply") from error
    raise ValueError("no JSON object in the reply")


def unquoted(value: object) -> object:
    """The list or object that a model wrote as text, in JSON or in Python's notation; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            return standard_json(json_repair.loads(value))
    return value


def _last(text: str, keys: Collection[str]) -> dict[str, Any]:
    """The last object in a text that has one of the keys; empty if there is none."""
    with suppress(ValueError):
        return _of(json.loads(text), keys)
    last: dict[str, Any] = {}
    at = text.find("{")
    for _ in range(_BRACES):
        if at < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except ValueError:
            # What is repaired takes in all that follows it.
            if broken := _of(json_repair.loads(text[at:]), keys):
                return broken
            end = at + 1
        else:
            last = _of(value, keys) or last
        at = text.find("{", end)
    return last


def _of(value: object, keys: Collection[str]) -> dict[str, Any]:
    """The object itself, or the first one of a list, if it has one of the keys."""
    items = value if isinstance(value, list) else [value]
    return next((item for item in items if isinstance(item, dict) and item and (not keys or not item.keys().isdisjoint(keys))), {})
