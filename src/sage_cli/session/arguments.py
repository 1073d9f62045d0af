"""What callers give a session besides options: media, questions, conversations. Checked here, before anything is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sage_cli.errors import UsageError
from sage_cli.text import is_link


def media_argument(given: str | Path) -> str:
    """The name of media: a path, a link, or ``-``.

    Raises:
        UsageError: it is of another type, or an address that is no link.
    """
    name = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(name, str):
        raise UsageError(f"the video is a path or a link (str or Path), not {type(given).__name__}")
    if re.match(r"(?i)[a-z][a-z0-9+.-]*://", name) and not is_link(name):
        raise UsageError(f"{name} is no link that sage can open: links begin with http:// or https://")
    return name


def question_argument(given: str) -> str:
    """A question.

    Raises:
        UsageError: it is empty, or no text.
    """
    if not isinstance(given, str):
        raise UsageError(f"the question is text (str), not {type(given).__name__}")
    if not given.strip():
        raise UsageError("the question is empty: write what you want to know about the video")
    return given


def earlier_argument(given: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The questions and answers of a conversation so far.

    Raises:
        UsageError: they are not pairs of text.
    """
    pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else () for pair in given] if isinstance(given, (list, tuple)) else [()]
    if not all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
        raise UsageError('earlier is a list of pairs, such as [("Who speaks?", "A woman.")]: questions and their answers')
    return [(question, answer) for question, answer in pairs]
