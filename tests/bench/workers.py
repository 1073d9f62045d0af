"""Workers with the faults of models. They are module functions because other processes call them."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable

from sage_cli.errors import NOTICES, MediaReadError, ModelError


class Unpicklable(str):
    def __reduce__(self) -> str:
        raise TypeError


def obedient() -> Callable[[str], str]:
    """Does what an item says: dies of a signal, exits, hangs, or answers with it and with the process it was done in."""

    def work(item: str) -> str:
        match item.split():
            case ["signal", name]:
                os.kill(os.getpid(), getattr(signal, name))
                time.sleep(60)
            case ["exit", status]:
                os._exit(int(status))
            case ["hang"]:
                time.sleep(600)
            case ["full", "disk"]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")
            case ["bad", "disk"]:
                raise MediaReadError("cannot read v.mp4: Input/output error")
            case ["no", "memory"]:
                raise MemoryError
            case ["cannot", "keep", what]:
                NOTICES.warning("%s is not kept", Unpicklable(what))
            case ["sleep", seconds]:
                time.sleep(float(seconds))
        return f"{item} by {os.getpid()}"

    return work


def unwilling() -> Callable[[str], str]:
    raise ModelError("this model cannot be loaded; give another")


def stillborn() -> Callable[[str], str]:
    os._exit(7)
