"""The failures a user can meet. Each carries its exit code; the command line turns it into one line on stderr."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class SageError(Exception):
    """Something went wrong that the user can act on.

    The message is one line: what is wrong, then what to do about it.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failure"  # for programs, as the exit code is for shells


class UsageError(SageError):
    """An option or argument that cannot work."""

    exit_code = 2
    code = "usage"


class ModelError(SageError):
    """A model that is missing, broken, mismatched or too big for what was asked of it."""

    exit_code = 3
    code = "model"


class VideoError(SageError):
    """A media file that cannot be read."""

    exit_code = 4
    code = "video"


class MediaReadError(VideoError):
    """A media file that could be opened and then not be read to its end, or that was changed meanwhile.

    It ends a run: it is never the result of a tool, and nothing that it cut short is cached.
    """


# Exit codes that are outcomes, not exceptions.
EXIT_NO_ANSWER = 5
EXIT_INTERRUPTED = 130


def machine_trouble(error: OSError | MemoryError) -> str:
    """What the machine could not do, and where: ``FILE: No space left on device``."""
    if isinstance(error, MemoryError):
        return "out of memory: close other programs, or choose a smaller model or fewer frames"
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.EAGAIN:  # what the system says when it cannot start a thread or a process
        reason = f"{reason}: too many processes, or out of memory"
    return f"{os.fsdecode(error.filename)}: {reason}" if isinstance(error.filename, (str, bytes, os.PathLike)) else reason


@contextmanager
def naming(path: os.PathLike[str] | str) -> Iterator[None]:
    """Make errors of the machine name a file: the system's own "No space left on device" says nothing of where."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
