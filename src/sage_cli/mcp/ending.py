"""What stdin brings to the SDK, and when it ends.

Signals end the server as the end of stdin does: the SDK waits for a thread that reads stdin, which a signal does not wake.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Final

from sage_cli.hardware.threads import background
from sage_cli.signals import Handler, signals_taken
from sage_cli.text import standard_json

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


@contextmanager
def stdin_ended_by_signals() -> Iterator[None]:
    """Replace stdin by a pipe that brings the same lines and also ends with the first signal that ends a process. At the end of the block,
    the signal does what it would have done."""
    pieces: SimpleQueue[bytes] = SimpleQueue()  # the last one is empty
    source = os.dup(0)
    read_end, write_end = os.pipe()
    os.dup2(read_end, 0)
    os.close(read_end)

    def read() -> None:
        try:
            with suppress(OSError), os.fdopen(source, "rb") as lines:  # a terminal that is gone
                for line in lines:
                    pieces.put(_answerable(line))
        finally:
            pieces.put(b"")

    def write() -> None:
        with os.fdopen(write_end, "wb") as pipe:
            while data := pieces.get():
                pipe.write(data)
                pipe.flush()

    came: list[Callable[[], object]] = []

    def end(number: signal.Signals, handler: Handler) -> None:
        came.append(partial(handler, number, None))
        pieces.put(b"")
        if len(came) > 1:  # a second one does not wait
            came[-1]()

    try:
        with signals_taken(end):
            for work in (read, write):
                background(work, "sage-stdin")
            yield
    finally:
        if came:
            came[0]()


def _answerable(line: bytes) -> bytes:
    """A message with U+FFFD for halves of surrogate pairs: JSON may have them (``"\\ud83d"``), but the SDK drops such a request."""
    if not _SURROGATE.search(line):
        return line
    try:
        return json.dumps(standard_json(json.loads(line.decode("utf-8", "replace")))).encode() + b"\n"
    except (ValueError, RecursionError):
        return line
