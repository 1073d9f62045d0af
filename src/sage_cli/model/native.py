"""The ground under :mod:`sage_cli.model`: llama.cpp's logging, its reaction to Ctrl-C, and devices.

llama.cpp prints to stderr on its own; everything it says goes to :mod:`logging` instead (``sage_cli.llama``), where ``--verbose`` finds it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import llama_cpp
from llama_cpp import mtmd_cpp

logger = logging.getLogger("sage_cli.llama")
logger.addHandler(logging.NullHandler())  # silent unless the program that uses us sets logging up

# ---- logging -------------------------------------------------------------------------------------------------------

# ggml_log_level; what it calls info is detail to anyone else
_LEVELS: Final = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUATION: Final = 5
_listeners: list[list[str]] = []
_line = ""
_level = logging.DEBUG


def _log(level: int, text: bytes | None, _data: object) -> None:
    """Gather llama.cpp's fragments into lines; hand over each whole one."""
    global _line, _level
    if level != _CONTINUATION:
        _level = _LEVELS.get(level, logging.DEBUG)
    _line += (text or b"").decode("utf-8", "replace")
    while "\n" in _line:
        line, _line = _line.split("\n", 1)
        if line.strip(" ."):
            for lines in _listeners:
                lines.append(line)
            logger.log(_level, "%s", line)


_log_callback = llama_cpp.llama_log_callback(_log)  # referenced here for as long as llama.cpp may call it


def route_logs() -> None:
    """Send all that llama.cpp and mtmd print to :mod:`logging`. Safe to call again."""
    nothing = ctypes.c_void_p(0)
    llama_cpp.llama_log_set(_log_callback, nothing)
    mtmd_cpp.mtmd_log_set(_log_callback, nothing)
    mtmd_cpp.mtmd_helper_log_set(_log_callback, nothing)


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """Collect what llama.cpp logs meanwhile: some facts (devices, reasons of failure) it tells nowhere else."""
    lines: list[str] = []
    _listeners.append(lines)
    try:
        yield lines
    finally:
        _listeners.remove(lines)


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


class Interruptible:
    """Makes long native calls stop on Ctrl-C.

    Python runs a signal handler only between bytecodes, so inside one call that takes seconds Ctrl-C would go unheard, and an exception
    raised inside a ctypes callback is lost. So for the length of the call SIGINT only sets a flag, which llama.cpp's abort callback
    reads between graph nodes; the real handler is called after the call has returned and its state has been put in order.
    """

    def __init__(self) -> None:
        self._requested = False
        self.abort_callback = llama_cpp.ggml_abort_callback(lambda _data: self._requested)

    @contextmanager
    def guard(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.getsignal(signal.SIGINT)
        if not callable(previous):  # ignored, or installed from outside Python: not ours to change
            yield
            return
        self._requested = False

        def note(_signal: int, _frame: FrameType | None) -> None:
            self._requested = True

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
            if self._requested:
                self._requested = False
                previous(signal.SIGINT, None)


# ---- machine -------------------------------------------------------------------------------------------------------


def default_threads() -> tuple[int, int]:
    """Threads for generation and for prompt processing.

    Generation is bound by memory bandwidth and gains nothing from a second hardware thread on a core; prompt processing does.
    """
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    return (available if available <= 4 else available // 2), available


def c_array(values: Any, kind: Any) -> Any:
    """A contiguous numpy array as the ctypes pointer of ``kind``; the caller keeps the array alive."""
    return values.ctypes.data_as(ctypes.POINTER(kind))
