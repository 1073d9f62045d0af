"""Extracts the JSON object from a model's reply, even one that was not constrained by a schema."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import json_repair

from sage_cli.text import standard_json

_BODY: Final = re.compile(r"<json>(.*?)(?:</json>|$)|```(?:json)?(.*?)(?:```|$)", re.DOTALL)


def json_object(reply: str) -> dict[str, Any]:
    """The JSON object between ``<json>`` tags, in a code fence, or bare; broken JSON is repaired. Of a list, the first item.

    Raises:
        ValueError: there is none, or it holds what :func:`standard_json` refuses.
    """
    match = _BODY.search(reply)
    body = (match[1] if match[1] is not None else match[2]) if match else reply
    try:
        try:
            value = json.loads(body)
        except ValueError:
            value = json_repair.loads(body)
        value = standard_json(value)
    except RecursionError as error:
        raise ValueError("the reply is nested too deeply") from error
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict) or not value:
        raise ValueError("no JSON object in the reply")
    return value
