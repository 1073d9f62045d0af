"""Output files: never overwrite an input or a file of another kind, and appear complete or not at all.

:func:`is_folder` says what a name means where it may be a file or a folder for files. Folders are made with their parents.

All commands write their files here. Content is collected in memory (transcripts, reports and stills are small) and written at the end:
under a temporary name in the same folder, then renamed. A run that fails or is killed leaves existing files unchanged.
"""

from __future__ import annotations

import codecs
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedWriter, BytesIO, FileIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast
from unicodedata import normalize

from sage_cli.errors import NOTICES, UsageError, naming

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT = "-"  # as the name of an output

_WRITTEN = (".jpg", ".jpeg", ".png", ".webp", ".mp4")  # of pictures and clips: who names one of them expects a file
_LONGEST = 255  # bytes of a file name
_ACL = "system.posix_acl_access"
_HEAD = 8192  # bytes of an existing file that are checked for text


def format_of(target: str, formats: Sequence[str], default: str) -> str:
    """The format of a file name's suffix; ``default`` without a suffix.

    Raises:
        UsageError: the suffix is none of ``formats``.
    """
    suffix = Path(target).suffix[1:].lower()
    if not suffix:
        return default
    if suffix not in formats:
        raise UsageError(
            f"--output {target}: the format .{suffix} is unknown; known are {', '.join(formats)} (or add --format; for a folder: {target}/)"
        )
    return suffix


def is_folder(target: str) -> bool:
    """Whether an output's name means a folder: it ends with a slash, is one, or is new and has no suffix.

    How many inputs there are plays no part, so that a command in a loop writes where one for all inputs does.
    """
    path = Path(target)
    return target.endswith(("/", os.sep)) or path.is_dir() or not (path.suffix or os.path.lexists(path))


def folder_named(flag: str, target: str) -> Path:
    """The folder that an option for several files names; checked, before any work, by :func:`check_folder`.

    A new name is one, with a dot (``talk-2024.05``) too, unless it is plainly that of a picture or clip.

    Raises:
        UsageError: the name means a file, or stdout.
        OSError: files cannot be written there; ``filename`` names it.
    """
    if target == STDOUT:
        raise UsageError(f"{flag} {target}: several files cannot go to stdout; name a folder")
    folder = Path(target)
    known = os.path.lexists(folder)
    if not folder.is_dir() and (known or (not is_folder(target) and folder.suffix.lower() in _WRITTEN)):
        raise UsageError(f"{flag} {target}: this is a file; name a folder{'' if known else f' (for a new one: {target}/)'}")
    check_folder(folder)
    return folder


def check_targets(targets: Iterable[Path], inputs: Iterable[Path] = (), *, text: bool = True) -> None:
    """Check, before any work, that files can be written without destroying anything.

    Inputs are compared by file identity, so under any spelling of the path, and through symbolic and hard links.

    Args:
        text: the targets will be text; an existing file that is not text is not replaced then.

    Raises:
        UsageError: a target is an input of this run, a folder, or an existing file of another kind.
        OSError: a target cannot be written; ``filename`` names it.
    """
    inputs = list(inputs)
    for target in targets:
        if source := next((source for source in inputs if _same(source, target)), None):
            raise UsageError(f"{target} is the input {source}: give the output another name")
        with naming(target):
            if not _is_special(target):
                _check_file(target, text)


def check_folder(folder: Path) -> None:
    """Check, before any work, that files can be written into a folder, which need not exist yet.

    Raises:
        OSError: they cannot, or it is a file; ``filename`` names it.
    """
    with naming(folder):
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass


def folded(name: str) -> str:
    """Equal for file names that differ only in case or Unicode normalization: on macOS and Windows they are one file."""
    return normalize("NFC", normalize("NFD", name).casefold())


def file_name(stem: str, end: str) -> str:
    """A file name of a stem, cut where it would be too long for file systems, and an end."""
    while len(os.fsencode(stem + end)) > _LONGEST:
        stem = stem[:-1]
    return stem + end


def same_folder(first: Path, second: Path) -> bool:
    """Whether two absolute paths without links name one folder: file systems that ignore letter case find it by other names, too."""
    if first == second or folded(str(first)) != folded(str(second)):
        return first == second
    with suppress(OSError):
        return os.path.samestat(first.lstat(), second.lstat())  # of a link that has been put there since, not what it leads to
    return False


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A folder to write several files to, made with its parents; if the block raises, new folders without a file are removed.

    Raises:
        OSError: it cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def telling_replaced(target: Path) -> Iterator[None]:
    """Tell if what the block writes replaces a file that was different. For names made from the input's, which another input may have."""
    before = _digest(target) if target.is_file() else None
    yield
    if before is not None and before != _digest(target):
        NOTICES.warning("replaced %s, whose content was different", target)


def _digest(file: Path) -> bytes:
    """A hash of a file, which may be a clip of any size."""
    from blake3 import blake3

    return blake3().update_mmap(file).digest()


@contextmanager
def open_text(target: Path, inputs: Iterable[Path] = ()) -> Iterator[TextIO]:
    """A text file (UTF-8, ``\\n``) that appears as ``target``, complete, when the block ends; it stays as it was if the block raises.

    Symbolic links stay, and what they point to is replaced. Devices and pipes are written to directly, line by line. Text that is not valid
    Unicode (half a surrogate pair) is replaced by ``?``.

    Raises:
        UsageError, OSError: see :func:`check_targets`.
    """
    check_targets([target], inputs)
    with _open(target) as file:
        text = TextIOWrapper(file, encoding="utf-8", errors="replace", newline="\n", line_buffering=True)
        yield text
        text.detach()


@contextmanager
def open_binary(target: Path, inputs: Iterable[Path] = ()) -> Iterator[BinaryIO]:
    """The same for bytes. The file is seekable unless ``target`` is a device or a pipe."""
    check_targets([target], inputs, text=False)
    with _open(target) as file:
        yield file


def write_text(target: Path, text: str) -> None:
    """Write a whole text file in one step: readers see the old or the new content, never a part.

    Raises:
        UsageError, OSError: see :func:`check_targets`.
    """
    with open_text(target) as file:
        file.write(text)


class _Device(FileIO):
    """A device or pipe whose failed writes name it."""

    def write(self, data: ReadableBuffer, /) -> int:
        with naming(Path(os.fsdecode(self.name))):
            return super().write(data)


@contextmanager
def _open(target: Path) -> Iterator[BinaryIO]:
    if _is_special(target):  # a file renamed to this name would take /dev/null away from the machine
        with BufferedWriter(_Device(target, "w")) as device:
            yield cast(BinaryIO, device)
        return
    buffer = BytesIO()
    yield buffer
    with naming(target), buffer.getbuffer() as content:  # released, even if an error keeps this frame: Python 3.13 complains
        _replace(Path(os.path.realpath(target)), content)  # a link stays one


def _replace(path: Path, content: memoryview) -> None:
    """Put a complete file in the place of ``path``; missing folders are made."""
    # A name of its own, so that two runs never share it, and a short one, so that names of up to 255 bytes can be written.
    part = path.with_name(f".sage-{secrets.token_hex(6)}")
    with output_folder(path.parent):
        try:
            with _create(part, path) as file:
                file.write(content)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _create(part: Path, path: Path) -> BinaryIO:
    """A new file, for those who may use the file that it will replace."""
    if not path.exists():
        return part.open("xb")
    old = path.stat()
    mode = old.st_mode & 0o777
    # Disks whose files others own (exFAT, CIFS, NFS) refuse to change modes. The mode is a nicety there, but nobody may read a file who
    # could not read the old one. So it is made without what only the old group may do: its own group may be another one, and those bits
    # may be the mask of an access control list.
    made = mode & (0o707 | (mode & 0o007) << 3)
    file = open(part, "xb", opener=lambda name, flags: os.open(name, flags, made))  # noqa: SIM115
    with suppress(OSError):
        if part.stat().st_gid != old.st_gid:
            os.chown(part, -1, old.st_gid)
        if (acl := _acl(path)) != _acl(part):  # a new one can have the folder's
            os.setxattr(part, _ACL, acl) if acl else os.removexattr(part, _ACL)
        part.chmod(mode)
    return file


def _acl(path: Path) -> bytes | None:
    """Who else may use a file, on Linux."""
    with suppress(OSError):
        return os.getxattr(path, _ACL) if hasattr(os, "getxattr") else None
    return None


def _check_file(target: Path, text: bool) -> None:
    with suppress(FileNotFoundError):
        target.stat()  # a loop of links, a name that is too long, a file in place of a folder
    path = Path(os.path.realpath(target))
    if path.is_dir():
        raise UsageError(f"{target} is a folder: name a file in it")
    if path.is_file():
        with path.open("ab"):  # changes nothing; the system's error tells a read-only file system from a missing permission
            pass
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if text and b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise UsageError(f"{target} exists and is not a text file: give the output another name, or delete that file first")
    check_folder(path.parent)


def _is_special(path: Path) -> bool:
    """Whether it is a device, a pipe or a socket."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # one of the two is not there
        return False
