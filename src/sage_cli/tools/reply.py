"""Finds what a model's reply says, even one that was not constrained by a schema: after its thinking, in any wrapping, in broken JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from itertools import chain
from typing import Any, Final

import json_repair

from sage_cli.text import standard_json

# As Qwen, GLM and MiMo write it, and as Kimi does.
_OPENING: Final = re.compile(r"[<◁]think(?:ing)?[>▷]")
_CLOSING: Final = re.compile(r"[<◁]/think(?:ing)?[>▷]")
_LONGEST: Final = len("</thinking>")
# The end of thinking, not a word of a sentence about such tags.
_END: Final = re.compile(rf"(?:(?<![^\S\n])(?<![\"'`(\u201c\u2018«]){_CLOSING.pattern}|{_CLOSING.pattern}(?=\s*[\n{{<]))")
_BEGUN: Final = re.compile(r"\s*(?:\{|\[\s{0,99}\{|<json>|```)")

# Literal text around the JSON of a reply, as models are asked to write it.
WRAP: Final = ("<json>\n", "\n</json>")

_WRAPPED: Final = (re.compile(r"<json>(.*?)(?:</json>|\Z)", re.DOTALL), re.compile(r"```(?:json)?(.*?)(?:```|\Z)", re.DOTALL))
_DECODER: Final = json.JSONDecoder(strict=False)  # which takes line ends in strings
_WORDS: Final = str.maketrans("<◁`", "   ")
_THOUGHTS: Final = 30  # at the beginning of a reply, one after the other
_BRACES: Final = 30  # of a text, after which an object is looked for
_REPAIRS: Final = 4  # of a text; each reads it to its end


def without_thinking(reply: str) -> str:
    """What a reply says after its thinking; nothing if the thinking does not end. Some chat templates open it before the reply begins.
    Further on, and in a reply that begins with JSON, such tags are words."""
    said, thought = reply, False
    for _ in range(_THOUGHTS):
        if not _OPENING.match(begun := said.lstrip()):
            break
        closing = _END.search(begun) or _CLOSING.search(begun)
        if closing is None:
            return ""
        said, thought = begun[closing.end() :], True
    if thought or has_begun(said):
        return said
    marked = structure(said)
    closing = _END.search(marked)
    return said if closing is None or _OPENING.search(marked, 0, closing.start()) else said[closing.end() :]


def has_begun(reply: str) -> bool:
    """Whether a reply begins with JSON, bare or wrapped: what thinks first does not."""
    return _BEGUN.match(reply) is not None


def closes_thinking(reply: str, piece: str) -> bool:
    """Whether thinking may end with the last piece of a reply."""
    return _CLOSING.search(reply, max(0, len(reply) - len(piece) - _LONGEST)) is not None


def structure(text: str) -> str:
    """A text of the same length in which blanks replace the tags and fences inside whole objects: there they are words of a string. Other
    tags and fences are found in it, where they are in the text."""
    parts, at, tries = [], 0, _BRACES
    begin = text.find("{")
    while begin >= 0 and tries:
        try:
            _, end = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            begin, tries = text.find("{", begin + 1), tries - 1
        else:
            parts += [text[at:begin], text[begin:end].translate(_WORDS)]
            begin, at = text.find("{", end), end
    return "".join([*parts, text[at:]])


def is_json(text: str | bytes) -> bool:
    """Whether a text is one value of JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def json_object(reply: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """The JSON object of a reply: between ``<json>`` tags, in a code fence, or bare; broken JSON is repaired. Of a list, the first item.

    Args:
        keys: of which it has at least one, to know it from other text in braces; any object without them. Of several objects, the last.

    Raises:
        ValueError: there is none, or it holds what :func:`standard_json` refuses.
    """
    said = without_thinking(reply)
    marked = structure(said)
    # In JSON alone, tags and fences are words, even if it is broken.
    wraps = [] if said.lstrip().startswith("{") else [wrap for pattern in _WRAPPED for wrap in reversed([*pattern.finditer(marked)])]
    for texts in ([said[slice(*wrap.span(1))] for wrap in wraps], [said]):
        found = [_last(text, keys) for text in texts]
        if best := next(filter(None, chain((whole for whole, _ in found), (broken for _, broken in found))), None):
            value: dict[str, Any] = standard_json(best)
            return value
    raise ValueError("no JSON object in the reply")


def unquoted(value: object) -> object:
    """The list or object that a model wrote as text, in JSON or in Python's notation; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")) and value.rstrip().endswith(("]", "}")):
        with suppress(ValueError):
            return standard_json(_repaired(value))
    return value


def _repaired(text: str) -> Any:
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError) as error:  # which of them depends on the versions of Python and of the library
        raise ValueError("the reply is nested too deeply") from error


def _last(text: str, keys: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last object in a text that has one of the keys, and the first one that has to be repaired; empty if there is none."""
    with suppress(ValueError, RecursionError):
        return _of(_DECODER.decode(text), keys), {}
    named = re.compile(f"(?<![</])(?:{'|'.join(map(re.escape, keys))})")  # not as a tag
    last: dict[str, Any] = {}
    at, repairs = text.find("{"), 0
    for _ in range(_BRACES):
        if at < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            if repairs < _REPAIRS and named.search(text, at):
                repairs += 1
                # What is repaired takes in all that follows it.
                if broken := _of(_repaired(text[at:]), keys):
                    return last, broken
            end = at + 1
        else:
            last = _of(value, keys) or last
        at = text.find("{", end)
    return last, {}


def _of(value: object, keys: Collection[str]) -> dict[str, Any]:
    """The object itself, or the first one of a list, if it has one of the keys."""
    items = value if isinstance(value, list) else [value]
    return next((item for item in items if isinstance(item, dict) and (not keys or not item.keys().isdisjoint(keys))), {})
