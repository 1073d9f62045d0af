"""Reads the values of options.

An option has one name everywhere: ``--ctx-size`` on the command line, ``SAGE_CTX_SIZE`` in the environment, ``ctx-size`` in the settings
file, ``ctx_size`` in Python. The first of these that is set wins, then the default. Messages about a value name its source.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple

import tomlkit
from filelock import FileLock, Timeout
from tomlkit.exceptions import TOMLKitError

from sage_cli.errors import SageError, UsageError
from sage_cli.output import output_folder, write_text
from sage_cli.session.options import Options, declared, settable
from sage_cli.session.values import check
from sage_cli.store.paths import config_path
from sage_cli.store.private import private_folder
from sage_cli.text import decode_unicode

LARGEST_FILE: Final = 1 << 20  # bytes of a settings file; /dev/zero has no end
# Those of the environment that are no settings.
VARIABLES: Final = (
    *("SAGE_CONFIG", "SAGE_CACHE_DIR", "SAGE_MODELS_DIR", "SAGE_LOG_FILE", "SAGE_API_KEY", "SAGE_JUDGE_KEY", "SAGE_SEARCH_KEY"),
    *("SAGE_WEB_ROBOTS", "SAGE_WEB_MAX_AGE"),
)
_ALIKE: Final = 0.85  # of 1: SAGE_FRAME and SAGE_FRAMES, but not SAGE_LOG_FILE and SAGE_LOG
_PATIENCE_S: Final = 10.0  # with another process that changes the file


class Setting(NamedTuple):
    """A setting in effect; its value is ``None`` for automatic."""

    value: Any
    origin: str  # "environment", "file" or "default"


def load_options(sources: Mapping[str, str] | None = None, /, **given: Any) -> Options:
    """Options from the arguments, the environment, the settings file and the defaults, in this order of precedence.

    Args:
        sources: names of the arguments in messages: ``{"frames": "--frames"}``.
        given: fields of :class:`Options`; ``None`` means not given.

    Raises:
        UsageError: an option does not exist, or a value is invalid.
    """
    _require(given)
    values = {settable()[key].name: value for key, value in (from_file() | from_environment()).items()}
    for name, value in given.items():
        if value is not None:
            values[name] = check(declared()[name], value, (sources or {}).get(name, name))
    return Options(**values)


def session_options(options: Options | None, given: Mapping[str, Any]) -> Options:
    """The options of a session that Python opens.

    Args:
        options: by default those of the environment and the settings file.
        given: more options by name; ``None`` means not given.

    Raises:
        UsageError: an option does not exist or is not a session's, or a value is invalid.
    """
    if options is not None and not isinstance(options, Options):
        raise UsageError(f'options are given by name, such as model="nano", or as Options, not as {type(options).__name__}')
    _require(given)
    # Settings are no mistake in Options: they may be those of load_options.
    own = [one.name for one in declared().values() if options and not one.setting and getattr(options, one.name) != one.default]
    for name in (*given, *own):
        if not declared()[name].of_session:
            raise UsageError(f"{name} is an option of the command line: a session does not use it")
    if options is None:
        return load_options(**given)
    return replace(options, **{name: check(declared()[name], value, name) for name, value in given.items() if value is not None})


def _require(names: Iterable[str]) -> None:
    for name in names:
        if name not in declared():
            raise UsageError(f"no such option: {name}{_nearest(name, declared())}")


def in_effect() -> dict[str, Setting]:
    """Every setting by key, with its value and source.

    Raises:
        UsageError: the file or a variable is invalid.
    """
    file, environment = from_file(), from_environment()
    values = {one.key: one.default for one in settable().values()} | file | environment
    origins = dict.fromkeys(settable(), "default") | dict.fromkeys(file, "file") | dict.fromkeys(environment, "environment")
    return {key: Setting(values[key], origin) for key, origin in origins.items()}


def known(key: str) -> str:
    """The key of a setting, as spelled in the file.

    Raises:
        UsageError: there is no such setting.
    """
    name = key.strip().lstrip("-").replace("_", "-").lower()
    if name not in settable():
        raise UsageError(f"no such setting: {key}{_nearest(name, settable())} ('sage config list' shows all)")
    return name


def misspelt() -> dict[str, str]:
    """Variables that nearly have a name of ours, with that name. Less alike are those of other programs: SageMath has ``SAGE_ROOT``."""
    names = [*(one.variable for one in settable().values()), *VARIABLES]
    others = [name for name in os.environ if name.startswith("SAGE_") and name not in names]
    return {name: near for name in others for near in get_close_matches(name, names, n=1, cutoff=_ALIKE)}


# ---- the environment and the file ----------------------------------------------------------------------------------


def from_environment() -> dict[str, Any]:
    """Settings from ``SAGE_*`` variables, by key; empty variables are ignored.

    Raises:
        UsageError: a value is invalid.
    """
    return {
        key: check(one, value, f"{one.variable}={value}", shown=False)
        for key, one in settable().items()
        if (value := os.environ.get(one.variable))
    }


def from_file() -> dict[str, Any]:
    """Settings from the file, by key.

    Raises:
        UsageError: it is not TOML, or a value is invalid.
    """
    found = {}
    for key, value in _read().unwrap().items():
        if key not in settable():
            kind = "section" if isinstance(value, dict) else "setting"
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
            private_folder(path.parent)
            yield path
    except Timeout as error:
        raise SageError(f"cannot write {path}: another process has been changing it for {_PATIENCE_S:g} s; try again") from error
    except OSError as error:
        raise SageError(f"cannot write {path}: {error.strerror or error}") from error


def _read() -> tomlkit.TOMLDocument:
    path = config_path()
    try:
        if path.is_fifo():  # opening it may wait for ever
            raise UsageError(f"{path} is no settings file, but a pipe; write the settings to a file (SAGE_CONFIG names it)")
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


def _nearest(name: str, names: Mapping[str, object]) -> str:
    near = get_close_matches(name.replace("_", "-"), names, n=1) or get_close_matches(name, names, n=1)
    return f", did you mean {near[0]}?" if near else ""
