"""Errors for users, each with its exit code. The command line prints one line on stderr."""

from __future__ import annotations

import errno
import logging
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

# What users should know though the results are right. The command line shows it; other logs are for --verbose.
NOTICES: Final = logging.getLogger("sage_cli.notices")

# Exit codes that are outcomes, too.
EXIT_NO_ANSWER = 5
EXIT_INTERRUPTED = 130


class SageError(Exception):
    """An error that the user can act on.

    The message is one line: what is wrong, then what to do about it.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failure"  # for programs; the exit code is for shells


class UsageError(SageError):
    """An invalid option or argument."""

    exit_code = 2
    code = "usage"


class ModelError(SageError):
    """A model that is missing, broken, mismatched or too large."""

    exit_code = 3
    code = "model"


class LibraryError(ModelError):
    """A native library that cannot be loaded, such as one built for CUDA on a machine without it.

    Attributes:
        package: that contains the library, as installers name it.
        reason: in the words of the system's loader.
        variable: of the environment, if it says where the library is.
        starved: memory is missing, not the library.
    """

    def __init__(self, package: str, reason: str, variable: str | None = None, starved: bool = False) -> None:
        super().__init__(package, reason, variable, starved)
        self.package, self.reason, self.variable, self.starved = package, reason, variable, starved

    @property
    def problem(self) -> str:
        """What is wrong, without what to do about it."""
        return f"{self.package} cannot be loaded: {self.reason}"

    def __str__(self) -> str:
        if self.starved:
            return f"{self.problem}; memory is missing, not the package: close other programs, or raise the limit (ulimit -v)"
        again = "install what is missing, or the package again for this machine ('sage doctor' shows how)"
        return f"{self.problem}; {f'unset {self.variable}' if self.variable else again}"


class ExtraError(SageError):
    """A feature whose packages are not installed: those of an extra of the package.

    Args:
        need: what needs which package.
    """

    exit_code = ModelError.exit_code  # as every library that is missing; but it concerns only what needs it
    code = ModelError.code

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(need, extra)
        self.need, self.extra = need, extra

    def __str__(self) -> str:
        return f"{self.need}: install sage with this extra, as in uv tool install '.[{self.extra}]' (see 'sage help install')"


class VideoError(SageError):
    """A media file that cannot be read."""

    exit_code = 4
    code = "video"


class MediaReadError(VideoError):
    """A media file that failed while it was read, or changed meanwhile.

    Ends the run: it is never a tool's result, and incomplete data is not cached.
    """


class NoReplyError(SageError):
    """A summary or a search of which no reply of the model can be used. (A question without an answer is an outcome.)"""

    exit_code = EXIT_NO_ANSWER
    code = "no_answer"


_PROC = Path("/proc")
_AMPLE = 1 << 30  # bytes
_LONGEST_REASON = 500  # characters: a mangled name of C++ can fill a screen


def machine_trouble(error: OSError | MemoryError) -> str:
    """An error of the machine as a line: ``FILE: No space left on device``."""
    if isinstance(error, MemoryError):
        return "out of memory: close other programs, or choose a smaller model or fewer frames"
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.EAGAIN:  # what the system says when it cannot start a thread or a process
        reason = f"{reason}: too many processes, or out of memory"
    if not isinstance(error.filename, (str, bytes, os.PathLike)):
        return reason
    file = os.fsdecode(error.filename)
    if file.startswith(f"{_PROC}/") and not _PROC.joinpath("self").exists():
        reason = f"{reason}: mount /proc"
    return f"{file}: {reason}"


def import_trouble(error: ImportError) -> str:
    """A dependency that is missing, or too old, as a line: the package was installed without it."""
    return f"{error.msg}: install sage-cli again, with its dependencies"


@contextmanager
def naming(path: os.PathLike[str] | str) -> Iterator[None]:
    """Add a file name to errors of the machine: "No space left on device" alone does not say where."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def is_memory_short() -> bool:
    """Whether the system has no gigabyte more for this process: more than anything but a model needs."""
    try:
        mmap.mmap(-1, _AMPLE).close()
    except OSError:
        return True
    return False


@contextmanager
def reading(path: os.PathLike[str] | str, kind: type[SageError]) -> Iterator[None]:
    """Turn errors of the machine into one of a kind: ``cannot read FILE: Permission denied``."""
    try:
        yield
    except OSError as error:
        raise kind(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def loading(package: str, *, variable: str | None = None) -> Iterator[None]:
    """Import a package with a native library. Every first import of one is inside this.

    Args:
        variable: of the environment that names the library's folder.

    Raises:
        LibraryError: the library, or one that it needs, is missing or does not fit.
    """
    try:
        yield
    except Exception as error:  # ImportError, OSError, RuntimeError, AttributeError: each package has its own
        reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        folder = os.environ.get(variable) if variable else None
        # The loader's words, without a reason: the same where a disk forbids to run programs.
        starved = isinstance(error, MemoryError) or ("failed to map segment" in reason and is_memory_short())
        if folder is None or starved:
            raise LibraryError(package, reason, starved=starved) from error
        raise LibraryError(package, f"{reason} ({variable} is {folder!r})", variable) from error
