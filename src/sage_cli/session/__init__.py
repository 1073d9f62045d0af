"""Connects user options to the agent: finds models, plans memory, opens caches and selects tools.

Submodules are imported on first use: ``--help`` imports only :mod:`.options`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sage_cli.session.options import Options

if TYPE_CHECKING:
    from sage_cli.session.session import Session, open_session
    from sage_cli.session.settings import load_options

__all__ = ["Options", "Session", "load_options", "open_session"]


def __getattr__(name: str) -> Any:
    if name == "load_options":
        from sage_cli.session.settings import load_options

        return load_options
    if name in ("Session", "open_session"):
        from sage_cli.session import session

        return getattr(session, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
