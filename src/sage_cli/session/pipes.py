"""Media from pipes: copied to files, because media is read more than once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sage_cli.errors import UsageError, VideoError, naming
from sage_cli.text import STDIN, media_name


class Pipes:
    """Reads each pipe once.

    Args:
        folder: where to copy to; called when there is something to copy.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._copies: dict[str, Path] = {}

    def add(self, name: str, copy: Path | None) -> None:
        """Use the copy that another process has :meth:`copied`, if it had to."""
        if copy is not None:
            self._copies[name] = copy

    def copied(self, name: str) -> Path | None:
        """The copy of a pipe, for other processes; ``None`` for a file, and for what cannot be read.

        Raises:
            UsageError: stdin is a terminal.
            OSError: the copy cannot be written.
        """
        with suppress(VideoError):
            self.local(name)
        return self._copies.get(name)

    def clear(self) -> None:
        """Forget the copies, whose folder is gone."""
        self._copies.clear()

    def local(self, given: str | Path) -> Path:
        """The media as a file that can be read more than once: the path itself, unless it is ``-`` or a pipe.

        Raises:
            UsageError: stdin is a terminal.
            VideoError: the pipe cannot be read.
            OSError: the copy cannot be written.
        """
        name = str(given)
        if name in self._copies:
            return self._copies[name]
        try:
            pipe = _opened(name)
        except OSError as error:  # no permission, or a name that is too long
            raise VideoError(f"cannot read {media_name(name)}: {error.strerror}") from error
        if pipe is None:
            return Path(given)
        copy = self._folder() / f"media-{len(self._copies)}"
        with pipe, naming(copy), copy.open("wb") as file:
            shutil.copyfileobj(pipe, file, 1 << 20)
        self._copies[name] = copy
        return copy


def _opened(name: str) -> BinaryIO | None:
    """The pipe of this name, open; ``None`` if it is a file."""
    if name == STDIN:
        if os.isatty(0):
            raise UsageError("stdin is a terminal: pipe media into it, or name a file")
        return open(0, "rb", closefd=False)
    path = Path(name)
    return path.open("rb") if path.is_fifo() or path.is_char_device() or path.is_socket() else None
