"""Settings in one TOML file, for what would otherwise be typed every time.

A setting has one name everywhere: ``--ctx-size`` on the command line, ``SAGE_CTX_SIZE`` in the environment, ``ctx-size`` in the file. The
first of these three that says something wins; else the default holds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import tomlkit
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from sage_cli.errors import SageError, UsageError
from sage_cli.store.paths import config_path


class Config(BaseModel):
    """Every setting, with its type and bounds. ``None`` is what the machine, the model or the command decides."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True)

    model: str | None = Field(default=None, description="The model that answers: a name that `sage models` lists, or a path.")
    speech_model: str | None = Field(default=None, description="The Whisper model: a name that `sage models` lists, or a path.")
    quantization: str | None = Field(default=None, description="The quantization that `sage models pull` looks for first, such as Q8_0.")
    offline: bool = Field(default=False, description="Never use the network, not even for what is asked for.")
    cache_limit: ByteSize = Field(
        default=ByteSize(12_000_000_000), description="Most the cache may hold, such as 20 GB; the oldest goes first."
    )

    frames: int | None = Field(default=None, ge=1, description="Most frames of the first look.")
    sampling: Literal["exact", "keyframe", "auto"] = Field(default="exact", description="Which frames the first look takes.")
    frame_tokens: int | None = Field(default=None, ge=1, description="Most tokens a frame pair may take.")
    tools: bool = Field(default=True, description="Let the model look again with tools.")
    max_steps: int = Field(default=10, ge=1, description="Most reasoning steps.")
    timeout: float = Field(default=300.0, ge=0, description="Seconds a question may take; 0 is no limit.")
    prompts_dir: Path | None = Field(default=None, description="Folder with prompt files that replace ours.")

    web: Literal["off", "ask", "on"] = Field(default="off", description="Let the model search the web and read pages.")
    search_provider: Literal["ddgs", "serper", "brave", "searxng"] = Field(default="ddgs", description="Who searches.")
    searxng_url: str | None = Field(default=None, description="Address of your own SearXNG.")

    ctx_size: int | None = Field(default=None, ge=256, description="Context size in tokens.")
    kv_type: Literal["f16", "q8_0"] | None = Field(default=None, description="Precision of the KV cache.")
    gpu_layers: int | None = Field(default=None, ge=0, description="Layers to run on the GPU.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads.")
    seed: int = Field(default=0, ge=0, description="Seed of the sampler.")
    temperature: float = Field(default=0.0, ge=0, le=2, description="Of sampling; 0 is deterministic.")
    language: str | None = Field(default=None, description="What is spoken, for `sage transcribe`: en, de, zh ...")


KEYS: Final = tuple(str(field.alias) for field in Config.model_fields.values())


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in effect.

    Attributes:
        value: ``None`` where it is decided when it is needed.
        origin: ``"environment"``, ``"file"`` or ``"default"``.
    """

    key: str
    value: Any
    origin: Literal["environment", "file", "default"]


def variable(key: str) -> str:
    """The environment variable of a setting."""
    return f"SAGE_{key.replace('-', '_').upper()}"


def from_file() -> dict[str, Any]:
    """What the file says, checked.

    Raises:
        UsageError: it is not TOML, or says something that cannot be.
    """
    return _checked(_read().unwrap(), str(config_path()))


def current() -> Config:
    """All settings in effect apart from the command line's.

    Raises:
        UsageError: the file or a variable says something that cannot be.
    """
    return Config(**from_file() | _from_environment())


def settings() -> list[Setting]:
    """The same one by one, with where each comes from."""
    file, environment = from_file(), _from_environment()
    values = _values(current())
    return [
        Setting(key, values[key], "environment" if key in environment else "file" if key in file else "default")
        for key in KEYS
    ]  # fmt: skip


def get(key: str) -> Any:
    """The value in effect of one setting.

    Raises:
        UsageError: there is no such setting.
    """
    return _values(current())[known(key)]


def change(key: str, value: str | None) -> None:
    """Write a setting to the file, or take it out; comments and order of the file are kept.

    Raises:
        UsageError: there is no such setting, or it cannot have this value.
        SageError: the file cannot be written.
    """
    key = known(key)
    document = _read()
    if value is None:
        document.pop(key, None)
    else:
        checked = _checked({key: value}, "--")[key]
        # A size stays as it was written: "20 GiB" says more than 21474836480.
        document[key] = checked if isinstance(checked, (bool, int, float)) and not isinstance(checked, ByteSize) else value
    _write(document.as_string())


def known(key: str) -> str:
    """The setting as it is spelled in the file.

    Raises:
        UsageError: there is none of this name.
    """
    name = key.strip().lstrip("-").replace("_", "-").lower()
    if name not in KEYS:
        raise UsageError(f"no such setting: {key}{_nearest(name)} ('sage config list' shows all)")
    return name


# ---- the file ------------------------------------------------------------------------------------------------------


def _read() -> tomlkit.TOMLDocument:
    path = config_path()
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}; mend it with 'sage config edit'") from error
    except OSError as error:
        raise SageError(f"cannot read {path}: {error.strerror or error}") from error


def _write(text: str) -> None:
    path = config_path().resolve()  # a link, as people who keep their settings in a repository have, stays one
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


# ---- checks --------------------------------------------------------------------------------------------------------


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in KEYS:
        if value := os.environ.get(variable(key)):  # an empty variable is as good as none
            found |= _checked({key: value}, variable(key))
    return found


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values as pydantic makes them.

    Args:
        where: for the message, the file or the variable they come from; ``"--"`` for what was typed.
    """
    for key, value in values.items():
        if key not in KEYS:
            kind = "section" if isinstance(value, (dict, Table)) else "setting"
            raise UsageError(f"{where}: no such {kind}: {key}{_nearest(key)} ('sage config list' shows all)")
    try:
        checked = Config.model_validate(values)
        return {key: value for key, value in _values(checked).items() if key in values}
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        message = problem["msg"].partition(", ")[2] if problem["type"] == "value_error" else problem["msg"]
        prefix = "" if where == "--" else f"{where}: "
        raise UsageError(f"{prefix}{key} cannot be {problem['input']!r}: {message[:1].lower()}{message[1:]}") from error


def _values(config: Config) -> dict[str, Any]:
    return {str(field.alias): getattr(config, name) for name, field in Config.model_fields.items()}


def _nearest(key: str) -> str:
    near = get_close_matches(key.replace("_", "-"), KEYS, n=1)
    return f", did you mean {near[0]}?" if near else ""
