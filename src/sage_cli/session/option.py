"""What an option is; :mod:`.options` declares them.

``--help`` imports this module, so it may import only the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

# Help groups. `--help` shows them in the order of their first option.
MODEL: Final = "Model"
LOOKING: Final = "Frames and tools"
SPEECH: Final = "Speech"
WEB: Final = "Web"
QUESTIONS: Final = "Questions"
RUN: Final = "Run"
OUTPUT: Final = "Output"
NOWHERE: Final = ""  # a setting that is not an option of any command


@dataclass(frozen=True, slots=True)
class Option:
    """Metadata of an option.

    Attributes:
        name: the field of :class:`~sage_cli.session.options.Options`.
        hint: its type there.
        panel: the group in ``--help``.
        commands: commands that take it.
        help: one sentence; the default is appended.
        metavar: placeholder of the value in ``--help``; by default the choices.
        auto: the default in words, if the value is chosen automatically.
        flags: its spellings; derived from the name by default.
        at_least, at_most: bounds of a number.
        kind: how to parse text if the type does not determine it: a size in bytes (``20 GB``), a time of the video (``1:30``), a path,
            perhaps among names (a ``~`` at its start is the home folder), or natural language, which is decoded; see
            :func:`sage_cli.text.decode`.
        setting: whether it can be set by the environment and the settings file.
        advanced: shown only by ``--help-all``.
        alone: its value if given without one.
        complete: completion of its value: a function of :mod:`sage_cli.cli.complete`.
        per: attributes that differ for a command.
    """

    name: str
    hint: Any
    panel: str
    commands: tuple[str, ...]
    help: str
    metavar: str = ""
    auto: str = ""
    flags: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    kind: Literal["", "size", "time", "path", "words"] = ""
    setting: bool = False
    advanced: bool = False
    alone: str = ""
    complete: str = ""
    default: Any = None
    per: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name in the settings file."""
        return self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"SAGE_{self.name.upper()}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values, if they are enumerable."""
        return tuple(map(str, get_args(self.type))) if get_origin(self.type) is Literal else ()

    @property
    def type(self) -> Any:
        """Type of the value: ``int`` for ``int | None``."""
        inner = [kind for kind in get_args(self.hint) if kind is not NoneType]
        return inner[0] if len(inner) == 1 and NoneType in get_args(self.hint) else self.hint

    @property
    def many(self) -> bool:
        """Whether it is repeatable."""
        return get_origin(self.type) is tuple

    @property
    def switch(self) -> bool:
        """Whether it is a flag without a value."""
        return self.type is bool

    @property
    def spelled(self) -> tuple[str, ...]:
        """As declared for typer: ``("--tools/--no-tools",)``, ``("--model", "-m")``."""
        long = f"--{self.key}"
        name = f"{long}/--no-{self.key}" if self.switch and self.default is not False else long
        return self.flags if self.flags and self.flags[0].startswith("--") else (name, *self.flags)

    @property
    def flag(self) -> str:
        """The first spelling, for messages."""
        return self.spelled[0].partition("/")[0]

    @property
    def default_text(self) -> str:
        """The default in words; ``""`` if there is nothing to say."""
        if self.auto or self.default is None or self.default is False or self.default in ("", ()):
            return self.auto
        if self.default is True:
            return "on"
        return self.text(self.default)

    def text(self, value: Any) -> str:
        """A value that is not ``None``, as it is given."""
        if isinstance(value, bool):
            return str(value).lower()
        return size_text(value) if self.kind == "size" else f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def about(self) -> str:
        """The help with the default."""
        return f"{self.help} Default: {self.default_text}." if self.default_text else self.help

    @property
    def of_session(self) -> bool:
        """Whether a session uses it; the others belong to commands. It divides the machine by ``jobs``."""
        return self.panel not in (QUESTIONS, RUN, OUTPUT, NOWHERE) or self.name in ("schema", "cache_limit", "jobs")

    def on(self, command: str) -> Option:
        """The option with the changes for a command."""
        return replace(self, **self.per[command]) if command in self.per else self


def option(default: Any, panel: str, commands: str, help: str, metavar: str = "", **more: Any) -> Any:
    """Declare a command-line option. ``more`` are the other attributes of :class:`Option`; ``flags`` is one string."""
    more["flags"] = tuple(str(more.get("flags", "")).split())
    declared = {"panel": panel, "commands": tuple(commands.split()), "help": help, "metavar": metavar, "default": default, **more}
    return field(default=default, metadata=declared)


def setting(default: Any, panel: str, commands: str, help: str, metavar: str = "", **more: Any) -> Any:
    """Declare an option that the environment and the settings file can set too."""
    return option(default, panel, commands, help, metavar, setting=True, **more)


def size_text(size: int) -> str:
    """A size for people, such as ``20.0 GB``."""
    from rich.filesize import decimal

    return decimal(size)
