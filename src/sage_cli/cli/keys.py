"""Keys that are typed while something else is drawn on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unseen_keys() -> Iterator[None]:
    """Do not echo keys that are typed meanwhile; the next reader of the terminal still gets them. Does nothing on Windows, in the
    background (changing a terminal would stop the process), and if stdin is not the terminal.
    """
    echoed = _echo(False)
    try:
        yield
    finally:
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
