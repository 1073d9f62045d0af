"""Shell completion. Everything is imported on demand, and errors are silent.

Files are completed by the shells themselves, which quote their names: typer's scripts insert what is found here as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Final

Completions = list[tuple[str, str]]

_PLAIN: Final = re.compile(r"[\w.:/@+-]+")  # what no shell takes for code, quoted or not

# A file of a function, to zsh: with the first TAB, zsh runs it in place of the function, and it only defined that.
_AT_ONCE: Final = """
if [ "$funcstack[1]" = "_%(prog_name)s" ]; then
  %(complete_func)s
fi
"""


def complete_at_once() -> None:
    """Let typer's script for zsh complete with the first TAB, not the second."""
    with suppress(ImportError, AttributeError, KeyError):  # another version's, which may do so itself
        from typer._completion_shared import _completion_scripts

        if "funcstack" not in _completion_scripts["zsh"]:
            _completion_scripts["zsh"] += _AT_ONCE


def quietly(complete: Callable[[str], Completions]) -> Callable[[str], Completions]:
    """No completions instead of an error, which would ruin the prompt, and none that a shell could take for code."""

    @wraps(complete)
    def wrapped(incomplete: str) -> Completions:
        with suppress(Exception):
            return [(value, about) for value, about in complete(incomplete) if _PLAIN.fullmatch(value)]
        return []

    return wrapped


@quietly
def setting_names(incomplete: str) -> Completions:
    """Settings of ``sage config``, with descriptions."""
    from sage_cli.session.options import settable

    return [(key, one.help) for key, one in settable().items()]


@quietly
def tool_names(incomplete: str) -> Completions:
    """The agent's tools."""
    from sage_cli.tools import TOOLS

    return [(tool.name, "") for tool in TOOLS]


@quietly
def installed_models(incomplete: str) -> Completions:
    """Models in the models folder."""
    from sage_cli.store.install import installed

    return [(model.name, model.kind) for model in installed()]


@quietly
def usable_models(incomplete: str) -> Completions:
    """Models that can be used now: installed ones and the bundled one."""
    from sage_cli.assets import NANO

    return [*installed_models(incomplete), (NANO.name, "bundled; for demonstrations")]


@quietly
def model_names(incomplete: str) -> Completions:
    """Models that can be pulled, and their status."""
    from sage_cli.store.catalogue import catalogue

    names = {entry.name: entry.about for entry in catalogue().values()}
    return [*(names | {name: kind for name, kind in installed_models(incomplete) if name not in names}).items()]
