"""Which files a client may name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage_cli.errors import UsageError
from sage_cli.text import user_path


class Folders:
    """The folders allowed when the server started; nothing outside them is opened, whatever the path looks like.

    Args:
        folders: resolved now, so that a link changed later has no effect.

    Raises:
        UsageError: one is not a folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"no such folder: {folder}")
        self.allowed = tuple(folder.resolve() for folder in folders)

    def __str__(self) -> str:
        return ", ".join(map(str, self.allowed))

    def resolve(self, path: str) -> Path:
        """A file in one of the folders, after following links. A relative path is tried in each of them.

        Raises:
            UsageError: it is outside the folders, or does not exist.
        """
        given = [Path(path), user_path(path)]
        try:
            candidates = [(folder / name).resolve() for name in given for folder in self.allowed]  # an absolute name stays what it is
            inside = [found for found in candidates if any(found.is_relative_to(folder) for folder in self.allowed)]
            found = next((found for found in inside if found.is_file()), None)
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL character
            raise UsageError(f"{path!r} cannot be resolved: {error}") from error
        if found is not None:
            return found
        if inside:
            raise UsageError(f"no such file: {path}")
        raise UsageError(f"{path} is outside the folders that this server may read: {self}")
