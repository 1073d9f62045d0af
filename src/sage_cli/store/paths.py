"""The folders that belong to sage. Each follows the platform's own rules and can be moved by an environment variable."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from sage_cli.errors import SageError

APP = "sage-cli"


def cache_dir() -> Path:
    """Folder of everything that can be made again; safe to delete at any time. ``SAGE_CACHE_DIR`` moves it."""
    return _folder("SAGE_CACHE_DIR", platformdirs.user_cache_path(APP, appauthor=False))


def models_dir() -> Path:
    """Folder where ``--model NAME`` is looked up. ``SAGE_MODELS_DIR`` moves it."""
    return _folder("SAGE_MODELS_DIR", platformdirs.user_data_path(APP, appauthor=False) / "models")


def config_path() -> Path:
    """File with the user's settings; it need not exist. ``SAGE_CONFIG`` moves it."""
    return _folder("SAGE_CONFIG", platformdirs.user_config_path(APP, appauthor=False) / "config.toml")


def check_scratch() -> None:
    """Make sure that temporary files can be written, which is where a run keeps the media it makes.

    Raises:
        SageError: they cannot.
    """
    try:
        tempfile.gettempdir()  # tries a file in each candidate folder
    except OSError as error:
        raise SageError("no folder for temporary files can be written: make room, or set TMPDIR to one that can") from error


def _folder(variable: str, default: Path) -> Path:
    override = os.environ.get(variable)
    return Path(override).expanduser() if override else default
