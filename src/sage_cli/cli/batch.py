"""Several inputs in one command, and failures that are reported at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sage_cli.cli import console
from sage_cli.errors import SageError, VideoError, machine_trouble
from sage_cli.text import MEDIA, STDIN

_GLANCE = 1000  # entries


@dataclass(frozen=True, slots=True)
class Input:
    """A file to work on.

    Attributes:
        name: as given by the user, or its path if it was found in a folder.
        inside: the folder that it was found in, below the one that was given.
    """

    name: str
    inside: Path = Path()


def of_folders(sources: Sequence[str], *, recursive: bool = False) -> list[Input]:
    """The files that are meant, each once: of a folder the videos and recordings in it, in alphabetical order, less those that are named.

    Args:
        recursive: take those in the folders in it, too. Otherwise a notice says that they are left out.

    Raises:
        VideoError: a folder holds none.
    """
    named = {_identity(source) for source in sources}
    found: dict[object, Input] = {}
    for source in sources:
        for one in _of_folder(source, recursive):
            if one.name == source or _identity(one.name) not in named:
                found.setdefault(_identity(one.name), one)
    return [*found.values()]


def _identity(source: str) -> object:
    """Equal for all spellings of a path, through links as well. A file with two names is two: each name has its own subtitles."""
    from sage_cli.output import folded

    if source == STDIN or not exists(source):
        return source
    path = Path(source)
    stat = path.stat()
    return stat.st_dev, stat.st_ino, folded(path.name)


def _of_folder(source: str, recursive: bool) -> list[Input]:
    folder = Path(source)
    if source == STDIN or not exists(source) or not folder.is_dir():
        return [Input(source)]
    found = _walked(folder) if recursive else sorted(path for path in folder.iterdir() if _is_medium(path))
    if not found:
        none = f"{source} holds no video or recording"
        if recursive:
            raise VideoError(f"{none}: give a file, or a folder with some")
        if _has_more(folder):
            raise VideoError(f"{none} itself, but its folders do: add --recursive")
        raise VideoError(f"{none} itself: give a file, a folder with some, or add --recursive to search its folders")
    if not (recursive or console.quiet) and _has_more(folder):
        console.note(f"{source}: the files in its folders are left out; to include, add --recursive")
    return [Input(str(path), path.parent.relative_to(folder)) for path in found]


def _is_medium(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in MEDIA and path.is_file()


def _has_more(folder: Path) -> bool:
    """Whether a short look finds such files in the folders directly in a folder: it may be the root of a disk."""

    def entries() -> Iterator[Path]:
        with suppress(OSError):
            for inner in folder.iterdir():
                yield inner
                with suppress(OSError):
                    if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                        with os.scandir(inner) as scan:
                            yield from (Path(entry.path) for entry in scan)

    return any(path.parent != folder and _is_medium(path) for path in islice(entries(), _GLANCE))


def _walked(folder: Path) -> list[Path]:
    """The videos and recordings in a folder and the folders in it, in alphabetical order; no hidden ones. Links to folders may lead
    back and are not followed. Folders in it that cannot be read are told.

    Raises:
        OSError: the folder itself cannot be read.
    """

    def failed(error: OSError) -> None:
        if error.filename == str(folder):
            raise error
        console.say(f"not searched: {machine_trouble(error)}")

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (path for name in names if _is_medium(path := Path(parent, name)))
    return sorted(found)


def exists(word: str) -> bool:
    """Whether a word of the command line is the path of something."""
    try:
        return bool(word.strip()) and Path(word).exists()
    except (OSError, ValueError):  # for example too long for a file name
        return False


def names_medium(word: str) -> bool:
    """Whether a word of the command line can only be the name of a video or a recording, one that exists or not."""
    return word.lower().endswith(MEDIA) and (" " not in word or exists(word))


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that failed: its name as given, the reason, the exit code, and the code for programs."""

    source: str
    reason: str
    status: int = SageError.exit_code
    code: str = SageError.code

    @classmethod
    def of(cls, source: str, error: SageError | OSError) -> Failure:
        """One line; an OSError as ``FILE: No space left on device``."""
        if isinstance(error, OSError):
            return cls(source, machine_trouble(error))
        return cls(source, str(error), error.exit_code, error.code)

    def write(self, form: str) -> None:
        """Print it beside the results, if they are JSON."""
        console.write_error(form, self.reason, self.code, self.status, self.source)


def report(failures: Sequence[Failure], count: int) -> int:
    """Report failures on stderr; return their common exit code, or 1 if they differ."""
    if not failures:
        return 0
    console.say(f"{len(failures)} of {count} files failed:")
    for one in failures:
        console.say(one.reason if one.source in one.reason else f"{one.source}: {one.reason}")
    statuses = {one.status for one in failures}
    return statuses.pop() if len(statuses) == 1 else 1
