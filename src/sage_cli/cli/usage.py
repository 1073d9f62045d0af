"""``--help`` as plain text, for pipes, screen readers and terminals that know no control sequences: the same as typer's, without boxes."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from typer.core import TyperArgument

_MARKUP: Final = re.compile(r"\[(?:bold|/)\]")
_GAP: Final = 2  # between columns, and before them
_NAMES: Final = 30  # widest column of names; longer ones have a line of their own


def plain_help(command: Any, context: Any) -> str:
    """The help of a command or group."""
    width = shutil.get_terminal_size().columns
    about = [_filled(paragraph, width) for paragraph in command.help.split("\n\n")] if command.help else []
    sections = [f"{title}:\n{_table(rows, width)}" for title, rows in _sections(command, context).items()]
    epilog = [_MARKUP.sub("", command.epilog)] if command.epilog else []
    return "\n\n".join([command.get_usage(context), *about, *sections, *epilog])


def _sections(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Names and their help by the title of their section, in the order of typer's panels."""
    found: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for one in command.get_params(context):
        if not getattr(one, "hidden", False):
            kind = "Arguments" if isinstance(one, TyperArgument) else "Options"
            found.setdefault(one.rich_help_panel or kind, []).append((_name(one, context), f"{one.help}{' [required]' * one.required}"))
    for name, child in getattr(command, "commands", {}).items():
        found.setdefault("Commands", []).append((name, (child.help or "").partition("\n\n")[0]))
    return {title: rows for title, rows in found.items() if rows}


def _name(one: Any, context: Any) -> str:
    if isinstance(one, TyperArgument):
        return str(one.get_usage_pieces(context)[0])
    flags = ", ".join(sorted([*one.opts, *one.secondary_opts], key=len))
    kind = one.display_type_rich(context)
    return f"{flags} {kind}" if kind else flags


def _table(rows: list[tuple[str, str]], width: int) -> str:
    names = min(max(len(name) for name, _ in rows), _NAMES) + 2 * _GAP

    def lines() -> Iterator[str]:
        for name, about in rows:
            head = f"{' ' * _GAP}{name}".ljust(names)
            if len(head) > names or not about:
                yield head.rstrip()
                head = " " * names
            if about:
                yield _filled(about, width, head, " " * names)

    return "\n".join(lines())


def _filled(text: str, width: int, first: str = "", others: str = "") -> str:
    text = " ".join(_MARKUP.sub("", text).split())
    # A command is not broken at its hyphens.
    return textwrap.fill(text, max(width, len(others) + 20), initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
