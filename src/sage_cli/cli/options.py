"""How the commands declare their options: in panels, with defaults told by the help text itself."""

from __future__ import annotations

from typing import Any

import typer


def option(panel: str, *names: str, **more: Any) -> Any:
    """An option of one command; an environment variable only if ``more`` names one."""
    return typer.Option(*names, rich_help_panel=panel, show_default=False, show_envvar=False, **more)


def setting(panel: str, *names: str, **more: Any) -> Any:
    """An option that the environment and the settings file know under its own name: ``--ctx-size`` is ``SAGE_CTX_SIZE``."""
    variable = names[0].split("/")[0].strip("-").replace("-", "_").upper()
    return option(panel, *names, envvar=f"SAGE_{variable}", **more)
