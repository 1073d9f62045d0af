"""The folders of sage, by the platform's conventions; an environment variable moves each."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from sage_cli.errors import SageError
from sage_cli.text import user_path

APP = "sage-cli"


def cache_dir() -> Path:
    """Folder of data that can be computed again; safe to delete at any time. ``SAGE_CACHE_DIR`` moves it."""
    return _folder("SAGE_CACHE_DIR", lambda: platformdirs.user_cache_path(APP, appauthor=False))


def models_dir() -> Path:
    """Folder where ``--model NAME`` is looked up. ``SAGE_MODELS_DIR`` moves it."""
    return _folder("SAGE_MODELS_DIR", lambda: platformdirs.user_data_path(APP, appauthor=False) / "models")


def config_path() -> Path:
    """File with the user's settings; it need not exist. ``SAGE_CONFIG`` moves it."""
    return _folder("SAGE_CONFIG", lambda: platformdirs.user_config_path(APP, appauthor=False) / "config.toml")


def log_path() -> Path:
    """File with the log of questions and answers; it need not exist. ``SAGE_LOG_FILE`` moves it."""
    return _folder("SAGE_LOG_FILE", lambda: platformdirs.user_data_path(APP, appauthor=False) / "log.db")


def history_path() -> Path:
    """File with the lines typed in ``sage chat``, beside the log; it need not exist."""
    return log_path().with_name("chat-history")


def own_folders() -> set[Path]:
    """The platform's folders for sage alone, wherever its data are: none that a user named."""
    with suppress(RuntimeError):  # there is no home
        kinds = platformdirs.user_cache_path, platformdirs.user_data_path, platformdirs.user_config_path
        return {kind(APP, appauthor=False) for kind in kinds}
    return set()


def check_scratch() -> None:
    """Check that temporary files can be written.

    Raises:
        SageError: they cannot.
    """
    try:
        tempfile.gettempdir()  # tries a file in each candidate folder
    except OSError as error:
        raise SageError("no folder for temporary files can be written: make room, or set TMPDIR to one that can") from error


def _folder(variable: str, default: Callable[[], Path]) -> Path:
    """An absolute path: the variable's, otherwise the platform's, which needs a home directory."""
    override = os.environ.get(variable)
    try:
        path = user_path(override) if override else default()
    except RuntimeError:  # platformdirs: no HOME, and no entry for this user
        path = Path("~")
    if str(path).startswith("~"):
        raise SageError(f"this user has no home folder: set {variable} to the path that it would have there")
    return path.absolute()
