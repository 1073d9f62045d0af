"""Keys that are typed while something is drawn on the terminal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

# The cursor's row and all below, with the cursor at its beginning. Below from the second column on: tmux keeps, in its history, what is
# erased from the first place of a screen on.
ERASE: Final = "\r\x1b[2K\x1b[C\x1b[J\r"


@contextmanager
def unseen_keys() -> Iterator[None]:
    """Do not echo keys that are typed meanwhile; the next reader of the terminal still gets them. Does nothing on Windows, in the
    background (changing a terminal would stop the process), and if stdin is not the terminal.

    Ctrl-Z leaves the shell a terminal with its echo and the cursor, which rich hides; ``fg`` takes both again.
    """
    echoed = _echo(False)

    def suspend(number: int, _frame: FrameType | None) -> None:
        nonlocal echoed
        _cursor(True)
        if echoed:
            _echo(True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # stops here
        signal.signal(number, suspend)
        echoed = _echo(False)
        if echoed:  # not by `bg`
            _cursor(False)

    handled = echoed and threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
    try:
        if handled:
            signal.signal(signal.SIGTSTP, suspend)
        yield
    finally:
        if handled:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        if echoed:
            _echo(True)


def _echo(on: bool) -> bool:
    """Turn the echo on or off; whether it was on. Without a terminal to change it counts as off."""
    if sys.platform == "win32":
        return False
    import termios

    try:
        terminal = sys.stdin.fileno()
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return False
        modes = termios.tcgetattr(terminal)
        was_on = bool(modes[3] & termios.ECHO)
        modes[3] = modes[3] | termios.ECHO if on else modes[3] & ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
    except (OSError, ValueError, termios.error):
        return False
    return was_on


def _cursor(shown: bool) -> None:
    """Show the cursor, where what was drawn is erased; or hide it. Not by rich: a signal may come while it writes."""
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), f"{ERASE}\x1b[?25h".encode() if shown else b"\x1b[?25l")
