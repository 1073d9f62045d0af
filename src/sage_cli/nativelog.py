"""What llama.cpp and whisper.cpp log: it goes to :mod:`logging`, and some facts (devices, reasons of failure) they tell nowhere else."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Final, NamedTuple

# ggml_log_level. What it calls info is detail to anyone else.
DEBUG, WARNING, ERROR = 1, 3, 4
_CONTINUATION: Final = 5


class LogLine(NamedTuple):
    """A line and its level in ggml."""

    level: int
    text: str


class NativeLog:
    """The log of one library. It is the process's, but threads may load models at once: each thread has its own lines.

    Warnings and errors are logged as info, everything else as debug: they advise options of other programs, and come before a fallback that
    works. A failure is an exception with their words.

    Args:
        logger: receives all lines.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # Where ggml aborts the process, it would run a debugger, if there is one, whose output goes to stdout.
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        self._unfinished: dict[int, LogLine] = {}  # by thread, as the next
        self._collected: dict[int, list[LogLine]] = {}

    def take(self, level: int, text: str) -> None:
        """Join the library's fragments into lines, and log each complete one. For the library's callback, in the thread that logs."""
        thread = get_ident()
        before = self._unfinished.get(thread, LogLine(DEBUG, ""))
        level = before.level if level == _CONTINUATION else level
        *lines, rest = (before.text + text).split("\n")
        self._unfinished[thread] = LogLine(level, rest)
        for line in lines:
            if line.strip(" ."):
                if thread in self._collected:
                    self._collected[thread].append(LogLine(level, line))
                self._logger.log(logging.INFO if level in (WARNING, ERROR) else logging.DEBUG, "%s", line)

    @contextmanager
    def lines(self) -> Iterator[list[LogLine]]:
        """Collect what the library logs in this thread during the block. Blocks are not nested."""
        lines = self._collected[get_ident()] = []
        try:
            yield lines
        finally:
            del self._collected[get_ident()]
