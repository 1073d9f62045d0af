"""Reads and checks the values of options.

An option has one name everywhere: ``--ctx-size`` on the command line, ``SAGE_CTX_SIZE`` in the environment, ``ctx-size`` in the settings
file, ``ctx_size`` in Python. The first of these that is set wins, then the default. Messages about a value name its source.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import tomlkit
from filelock import FileLock, Timeout
from pydantic import ByteSize, ConfigDict, Field, TypeAdapter, ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from sage_cli.errors import SageError, UsageError
from sage_cli.output import output_folder, write_text
from sage_cli.session.options import Option, Options, declared, settable
from sage_cli.store.paths import config_path
from sage_cli.text import decode_unicode, from_argument
from sage_cli.timecode import parse as parse_time

LARGEST_FILE: Final = 1 << 20  # bytes of a settings file; /dev/zero has no end
_PATIENCE_S: Final = 10.0  # with another process that changes the file


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in effect.

    Attributes:
        value: ``None`` for automatic.
        origin: ``"environment"``, ``"file"`` or ``"default"``.
    """

    key: str
    value: Any
    origin: Literal["environment", "file", "default"]


def load_options(sources: Mapping[str, str] | None = None, /, **given: Any) -> Options:
    """Options from the arguments, the environment, the settings file and the defaults, in this order of precedence.

    Args:
        sources: names of the arguments in messages: ``{"frames": "--frames"}``.
        given: fields of :class:`Options`; ``None`` means not given.

    Raises:
        UsageError: an option does not exist, or a value is invalid.
    """
    for name in given:
        if name not in declared():
            raise UsageError(f"no such option: {name}{_nearest(name, declared())}")
    values = {settable()[key].name: value for key, value in (from_file() | from_environment()).items()}
    for name, value in given.items():
        if value is not None:
            values[name] = check(declared()[name], value, (sources or {}).get(name, name))
    return Options(**values)


def in_effect() -> list[Setting]:
    """Every setting with its value and source.

    Raises:
        UsageError: the file or a variable is invalid.
    """
    file, environment = from_file(), from_environment()
    values = {one.key: one.default for one in settable().values()} | file | environment
    return [
        Setting(key, values[key], "environment" if key in environment else "file" if key in file else "default")
        for key in settable()
    ]  # fmt: skip


def known(key: str) -> str:
    """The key of a setting, as spelled in the file.

    Raises:
        UsageError: there is no such setting.
    """
    name = key.strip().lstrip("-").replace("_", "-").lower()
    if name not in settable():
        raise UsageError(f"no such setting: {key}{_nearest(name, settable())} ('sage config list' shows all)")
    return name


# ---- the environment and the file ----------------------------------------------------------------------------------


def from_environment() -> dict[str, Any]:
    """Settings from ``SAGE_*`` variables, by key; empty variables are ignored.

    Raises:
        UsageError: a value is invalid.
    """
    given = {key: os.environ.get(one.variable) for key, one in settable().items()}
    return {
        key: check(settable()[key], value, f"{settable()[key].variable}={value}", shown=False)
        for key, value in given.items()
        if value
    }  # fmt: skip


def from_file() -> dict[str, Any]:
    """Settings from the file, by key.

    Raises:
        UsageError: it is not TOML, or a value is invalid.
    """
    found = {}
    for key, value in _read().unwrap().items():
        if key not in settable():
            kind = "section" if isinstance(value, (dict, Table)) else "setting"
            raise UsageError(f"{config_path()}: no such {kind}: {key}{_nearest(key, settable())} ('sage config list' shows all)")
        found[key] = check(settable()[key], value, f"{config_path()}: {key}")
    return found


def change(key: str, value: str | None) -> None:
    """Write a setting to the file, or remove it; keeps comments and order.

    Raises:
        UsageError: there is no such setting, or the value is invalid.
        SageError: the file cannot be written.
    """
    one = settable()[known(key)]
    checked = None if value is None else check(one, value, one.key)
    with _writing() as path:
        document = _read()
        if value is None:
            document.pop(one.key, None)
        else:
            # A size is stored as written: "20 GB" is more readable than 20000000000.
            document[one.key] = checked if isinstance(checked, (bool, int, float)) and one.kind != "size" else value
        write_text(path, document.as_string())


def create(text: str) -> None:
    """Write the file if there is none.

    Raises:
        SageError: it cannot be written.
    """
    with _writing() as path:
        if not path.exists():
            write_text(path, text)


@contextmanager
def _writing() -> Iterator[Path]:
    """The file, in its folder, which is made; no other process changes it meanwhile."""
    path = config_path()
    try:
        with output_folder(path.parent), FileLock(path.with_name(f".{path.name}.lock"), timeout=_PATIENCE_S):
            yield path
    except Timeout as error:
        raise SageError(f"cannot write {path}: another process has been changing it for {_PATIENCE_S:g} s; try again") from error
    except OSError as error:
        raise SageError(f"cannot write {path}: {error.strerror or error}") from error


def _read() -> tomlkit.TOMLDocument:
    path = config_path()
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise UsageError(f"{path} is no settings file: it is larger than 1 MiB")
        return tomlkit.parse(decode_unicode(data))
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}; correct it with 'sage config edit'") from error
    except OSError as error:
        raise SageError(f"cannot read {path}: {error.strerror or error}") from error


# ---- values --------------------------------------------------------------------------------------------------------


def check(one: Option, value: Any, source: str, *, shown: bool = True) -> Any:
    """Convert a value to the option's type and check its bounds.

    Args:
        source: its origin, for the message.
        shown: whether the message must quote the value; otherwise the source contains it.

    Raises:
        UsageError: it is invalid.
    """
    try:
        if one.kind == "time" and isinstance(value, str):
            return parse_time(value)
        if one.kind == "words" and isinstance(value, str):
            return from_argument(value)
        if one.name == "schema" and isinstance(value, dict):  # from Python
            return json.dumps(value)
        if one.type in (str, Path) and isinstance(value, (str, Path)):
            return _text(one, value)
        if one.kind == "size":
            value = _with_unit(value)
        return _adapter(one.name).validate_python(value)
    except (ValidationError, UsageError, ValueError, OverflowError) as error:
        problem = " is empty" if value == "" else f" cannot be {value!r}" if shown else ""
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
    if one.type not in (int, float):
        return "a path" if one.type is Path else "text"
    low, high = (f"{bound:,.0f}".replace(",", "") if bound is not None else None for bound in (one.at_least, one.at_most))
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
def _adapter(name: str) -> TypeAdapter[Any]:
    one = declared()[name]
    kind: Any = ByteSize if one.kind == "size" else one.type
    bounds = {"ge": one.at_least, "le": one.at_most} if kind in (int, float, ByteSize) else {}
    numbers: dict[str, Any] = {"allow_inf_nan": False} if kind is float else {}
    checked = Annotated[kind, Field(**bounds, **numbers)]
    return TypeAdapter(checked if not one.many else kind, config=ConfigDict(coerce_numbers_to_str=True))


def _nearest(name: str, names: Mapping[str, object]) -> str:
    near = get_close_matches(name.replace("_", "-"), names, n=1) or get_close_matches(name, names, n=1)
    return f", did you mean {near[0]}?" if near else ""
