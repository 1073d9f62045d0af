"""Which files a client may name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sage_cli.errors import UsageError
from sage_cli.output import folded, same_folder
from sage_cli.speech.subtitles import files_beside
from sage_cli.store.models import visible
from sage_cli.text import MEDIA, user_path

_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # for a byte of a name that is not UTF-8


class Folders:
    """The folders allowed when the server started; nothing outside them is opened, whatever the path looks like, not even as subtitles.

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
        """A file in one of the folders, after following links. A relative path is tried in each of them, with and without its name.

        Raises:
            UsageError: it is outside the folders, or does not exist.
        """
        if not path.strip():
            raise UsageError("no path is given (list_videos shows those that there are)")
        try:
            candidates = self._candidates(path)
            inside = [found for found in candidates if self._holds(found)]
            found = next((found for found in inside if found.is_file()), None)
            folder = next((found for found in inside if found.is_dir()), None)
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL character
            raise UsageError(f"{path!r} cannot be resolved: {error}") from error
        if found is not None:
            if outside := next((file for file in files_beside(found) if not self._holds(file.resolve())), None):
                raise UsageError(f"{path} has subtitles outside the folders that this server may read: {outside.name} is a link")
            return found
        if folder is not None:
            raise UsageError(f"{path} is a folder: name a file in it (list_videos shows them)")
        if len(inside) < len(candidates):
            raise UsageError(f"{path} is outside the folders that this server may read: {self}")
        raise UsageError(f"no such file: {path} (list_videos shows those that there are)")

    def media(self, containing: str = "") -> list[str]:
        """Names of all videos and recordings in the folders, each as short as :meth:`resolve` takes it.

        Args:
            containing: a part of their absolute paths, in any letter case.

        Left out are hidden files, links that lead out, and names that are no text, which no client could send.
        """
        names: dict[Path, str] = {}
        for folder in self.allowed:
            for path in visible(folder, "**/*"):
                if path.suffix.lower() not in MEDIA or _SURROGATE.search(str(path)) or folded(containing) not in folded(str(path)):
                    continue
                file, inside = path.resolve(), path.relative_to(folder)
                if file not in names and self._holds(file):
                    names[file] = next(name for name in map(str, (inside, folder.name / inside, path)) if self._first(name) == file)
        return [*names.values()]

    def _holds(self, file: Path) -> bool:
        """Whether a file is in one of the folders.

        Args:
            file: resolved.
        """
        if any(file.is_relative_to(folder) for folder in self.allowed):
            return True
        return any(same_folder(parent, folder) for folder in self.allowed for parent in file.parents)

    def _first(self, path: str) -> Path | None:
        return next((found for found in self._candidates(path) if found.is_file()), None)

    def _candidates(self, path: str) -> list[Path]:
        """What a name may mean: in each folder, beginning with the folder's own name, or an absolute path."""
        found = []
        for name in dict.fromkeys((Path(path), user_path(path))):
            found += [(folder / name).resolve() for folder in self.allowed]  # an absolute name stays what it is
            begin, rest = folded(name.parts[0]) if name.parts else "", Path(*name.parts[1:])
            found += [(folder / rest).resolve() for folder in self.allowed if begin == folded(folder.name)]
        return found
