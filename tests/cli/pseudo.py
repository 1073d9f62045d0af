"""A process on a pseudo-terminal of its own, as a shell would start it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

LINES = 100
# Makes stdin the controlling terminal: Ctrl-C and Ctrl-Z become signals.
_LEAD = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Ended:
    """What is left of the process: its exit code, all that it wrote, and the screen without empty lines."""

    status: int
    written: str
    lines: list[str]


def on_terminal(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    keys: Sequence[tuple[str, str]] = (),
    term: str = "xterm-256color",
    columns: int = 80,
    cwd: Path | None = None,
) -> Ended:
    """Run Python with these words. Skips the test on Windows.

    Args:
        keys: what is typed once a pattern was written, after the key before.
    """
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    command = [sys.executable, "-c", _LEAD, sys.executable, *words]
    environment = {**environment, "TERM": term}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=cwd, start_new_session=True)
    os.close(theirs)
    screen = pyte.Screen(columns or 80, LINES)
    stream = pyte.ByteStream(screen)
    written, seen, waiting = b"", 0, [*keys]
    try:
        while data := os.read(ours, 1 << 16):
            stream.feed(data)
            written += data
            if waiting and (found := re.compile(waiting[0][0].encode()).search(written, seen)):
                os.write(ours, waiting.pop(0)[1].encode())
                seen = found.end()
    except OSError:  # how Linux says that the other end was closed
        pass
    os.close(ours)
    lines = [line.rstrip() for line in screen.display if line.strip()]
    return Ended(process.wait(), written.decode(errors="replace"), lines)
