"""The echo of a terminal, seen from a process on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import sys

import pytest

SCRIPT = """
import os, sys, termios
from sage_cli.cli.keys import unseen_keys
{before}
def echo():
    print("on" if termios.tcgetattr(0)[3] & termios.ECHO else "off", end=" ", flush=True)
echo()
try:
    with unseen_keys():
        echo()
        with unseen_keys():
            echo()
        echo()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    echo()
"""

IN_BACKGROUND = """
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.setpgid(0, 0)
"""


@pytest.mark.parametrize(
    ("before", "echo"),
    [
        ("", "on off off off on"),
        (IN_BACKGROUND, "on on on on on"),
        ("sys.stdin = open(os.devnull)", "on on on on on"),
    ],
    ids=["terminal", "background", "file"],
)
def test_the_echo_is_off_only_inside(before: str, echo: str) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", SCRIPT.format(before=before)])
    written = b""
    try:
        while data := os.read(terminal, 1 << 12):
            written += data
    except OSError:  # how Linux reports the other end's death
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert written.decode().split() == echo.split()
