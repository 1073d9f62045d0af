"""Checks the values of options, wherever they come from."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Final

from pydantic import ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

from sage_cli.errors import UsageError
from sage_cli.session.option import Option
from sage_cli.text import from_argument
from sage_cli.timecode import parse as parse_time

_LONGEST: Final = 200  # characters of a value in a message


def check(one: Option, value: Any, source: str, *, shown: bool = True, in_bytes: bool = False) -> Any:
    """Convert a value to the option's type and check its bounds.

    Args:
        source: its origin, for the message.
        shown: whether the message must quote the value; otherwise the source contains it.
        in_bytes: whether a size may be a number without a unit.

    Raises:
        UsageError: it is invalid.
    """
    try:
        if isinstance(value, bool) and not one.switch:  # in Python a number, too
            raise ValueError("no number")
        if one.kind == "time" and isinstance(value, str):
            return parse_time(value)
        if one.kind == "words" and isinstance(value, str):
            return from_argument(value)
        if one.name == "schema" and isinstance(value, dict):  # from Python
            return json.dumps(value)
        if one.type in (str, Path) and isinstance(value, (str, Path)):
            return _text(one, value)
        if one.kind == "size":
            value = int(value) if in_bytes and isinstance(value, (int, float)) else _with_unit(value)
        return _adapter(ByteSize if one.kind == "size" else one.type, one.at_least, one.at_most).validate_python(value)
    except (ValidationError, UsageError, ValueError, TypeError, OverflowError, RecursionError) as error:
        empty = isinstance(value, str) and not value
        problem = " is empty" if empty else f" cannot be {shorten(repr(value), _LONGEST)}" if shown else ""
        raise UsageError(f"{source}{problem}: expected {expected(one)}") from error


def expected(one: Option) -> str:
    """The allowed values of an option, in words."""
    if one.choices:
        return f"one of {', '.join(one.choices)}"
    if one.kind == "time":
        return "a time: HH:MM:SS, MM:SS, seconds, or 1h2m3s"
    if one.kind == "size":
        return "a size with its unit, such as 20 GB or 500 MB"
    if one.switch:
        return "true or false"
    if one.many:
        return "a list of text"
    if one.name == "schema":
        return "a JSON schema, or a file with one"
    if one.type not in (int, float):
        return "a path" if one.type is Path else "text"
    low, high = (f"{bound:.10g}" if bound is not None else None for bound in (one.at_least, one.at_most))
    bounds = f" from {low} to {high}" if low and high else f", at least {low}" if low else ""
    return f"{'a whole number' if one.type is int else 'a number'}{bounds}"


def _text(one: Option, value: str | Path) -> str | Path:
    """A name or a path. Not checked by pydantic: file names may not be UTF-8."""
    if not str(value).strip():
        raise ValueError("empty")
    text = os.path.expanduser(value) if one.kind == "path" else value  # noqa: PTH111  (keeps a slash at the end)
    return Path(text) if one.type is Path else str(text)


def _with_unit(value: Any) -> Any:
    """Require a unit, as ``20`` could be bytes or GB; 0 needs none."""
    bare = str(value).strip()
    if bare.replace(".", "", 1).isdigit() and float(bare) != 0:
        raise ValueError("no unit")
    return bare


@cache
def _adapter(hint: Any, at_least: float | None, at_most: float | None) -> TypeAdapter[Any]:
    if hint in (int, float, ByteSize):
        hint = Annotated[hint, Field(ge=at_least, le=at_most, allow_inf_nan=False if hint is float else None)]
    return TypeAdapter(hint, config=ConfigDict(coerce_numbers_to_str=True))
