"""The failures a user can meet. Each carries its exit code; the command line turns it into one line on stderr."""

from __future__ import annotations

from typing import ClassVar


class SageError(Exception):
    """Something went wrong that the user can act on.

    The message is one line: what is wrong, then what to do about it.
    """

    exit_code: ClassVar[int] = 1


class UsageError(SageError):
    """An option or argument that cannot work."""

    exit_code = 2


class ModelError(SageError):
    """A model that is missing, broken, mismatched or too big for what was asked of it."""

    exit_code = 3


class VideoError(SageError):
    """A media file that cannot be read."""

    exit_code = 4


# Exit codes that are outcomes, not exceptions.
EXIT_NO_ANSWER = 5
EXIT_INTERRUPTED = 130
