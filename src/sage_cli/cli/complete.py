"""Shell completion. Everything is imported on demand, and errors are silent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps

from sage_cli.text import MEDIA

Completions = list[tuple[str, str]]


def quietly(complete: Callable[[str], Completions]) -> Callable[[str], Completions]:
    """No completions instead of an error: a traceback would ruin the prompt."""

    @wraps(complete)
    def wrapped(incomplete: str) -> Completions:
        with suppress(Exception):
            return complete(incomplete)
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
def media_files(incomplete: str) -> Completions:
    """Folders, and files that look like videos or recordings."""
    from sage_cli.text import user_path

    typed = user_path(incomplete)
    folder = typed if incomplete.endswith("/") or not incomplete else typed.parent
    shown = incomplete[: incomplete.rfind("/") + 1]
    return [
        (f"{shown}{path.name}{'/' if path.is_dir() else ''}", "")
        for path in sorted(folder.iterdir())
        if (path.is_dir() or path.suffix.lower() in MEDIA) and not path.name.startswith(".")
    ]


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
