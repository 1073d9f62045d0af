"""The echo of a terminal, seen from a process on a pseudo-terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.cli.pseudo import on_terminal

ECHO = """
import os, signal, sys, termios, time
from pathlib import Path
def echo():
    with Path("echo").open("a") as file:
        print("on" if termios.tcgetattr(0)[3] & termios.ECHO else "off", end=" ", file=file)
"""

SCRIPT = """
from sage_cli.cli.keys import unseen_keys
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

BAR = """
from sage_cli.cli.bars import progress
with progress("talk.mp4", 0.0, 10.0):
    echo()
echo()
"""

# A shell that starts a job, sees it stop, and brings it back.
SUSPENDED = """
from sage_cli.cli.bars import progress
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    with progress("talk.mp4", 0.0, 10.0):
        echo()
        os.kill(os.getpid(), signal.SIGTSTP)
        echo()
    os._exit(0)
stopped = os.WIFSTOPPED(os.waitpid(job, os.WUNTRACED)[1])
os.tcsetpgrp(0, os.getpgrp())
os.write(2, b"<shell>" if stopped else b"")
echo()
os.tcsetpgrp(0, job)
os.kill(job, signal.SIGCONT)
os.waitpid(job, 0)
os.tcsetpgrp(0, os.getpgrp())
echo()
"""


@pytest.mark.parametrize(
    ("script", "echo"),
    [
        (SCRIPT, "on off off off on"),
        (IN_BACKGROUND + SCRIPT, "on on on on on"),
        ("sys.stdin = open(os.devnull)" + SCRIPT, "on on on on on"),
        (BAR, "off on"),
    ],
    ids=["terminal", "background", "file", "bar"],
)
def test_the_echo_is_off_only_inside(script: str, echo: str, tmp_path: Path) -> None:
    assert on_terminal(["-c", ECHO + script], os.environ, cwd=tmp_path).status == 0
    assert (tmp_path / "echo").read_text().split() == echo.split()


def test_ctrl_z_leaves_a_terminal_that_a_shell_can_use(tmp_path: Path) -> None:
    done = on_terminal(["-c", ECHO + SUSPENDED], os.environ, cwd=tmp_path)
    assert done.status == 0
    assert (tmp_path / "echo").read_text().split() == ["off", "on", "off", "on"]
    shown = re.sub(r"\x1b\[\?25([lh])|<(shell)>|.", r"\1\2", done.written, flags=re.DOTALL)
    assert shown.endswith("hshelllh")  # cursor shown, hidden again, and shown at the end
