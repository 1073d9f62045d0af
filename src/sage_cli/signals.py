"""Signals that end a process, made to clean up first."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final, NoReturn

# A service manager's stop, a closed terminal, Ctrl-\\. Windows knows the first alone.
_ENDING: Final = ("SIGTERM", "SIGHUP", "SIGQUIT")


def clean_up_when_ended() -> None:
    """Let the process unwind on these signals, so that temporary files go, and exit with 128 + the signal's number, as shells report it.

    What is ignored stays so: ``nohup`` wants its command to outlive the terminal.
    """
    for name in _ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
