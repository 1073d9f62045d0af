"""The client at stdin and stdout: what the SDK gets of it, and when it is gone.

The server ends when stdin does. The SDK waits for a thread that reads stdin, and nothing else wakes that thread: so a signal, or a client
that closes stdout, ends stdin too.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from sage_cli.errors import naming
from sage_cli.hardware.threads import background
from sage_cli.signals import Handler, signals_taken
from sage_cli.text import standard_json

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


@contextmanager
def client() -> Iterator[None]:
    """Replace stdin by a pipe that brings the same lines, and that ends with the first of: stdin, stdout's reader, a signal that ends a
    process. At the end of the block, the signal does what it would have done. Native libraries' output to stdout goes to stderr.

    Raises:
        OSError: stdout cannot be written although its reader is there, as on a full disk.
    """
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
        with signals_taken(end), _answers(lambda: pieces.put(b"")):
            for work in (read, write):
                background(work, "sage-stdin")
            yield
    finally:
        if came:
            came[0]()


@contextmanager
def _answers(gone: Callable[[], None]) -> Iterator[None]:
    """Replace ``sys.stdout`` by one whose writes never fail, and descriptor 1 by stderr; ``gone`` is called when nobody reads stdout."""
    wire = _Answers(os.dup(1), gone)
    with ExitStack() as restoring:
        sys.stdout.flush()
        restoring.callback(os.dup2, wire.target, 1)
        os.dup2(2, 1)
        # The SDK takes the buffer of a stdout that is not descriptor 1 as it is.
        restoring.enter_context(redirect_stdout(io.TextIOWrapper(io.BufferedWriter(wire), encoding="utf-8")))
        if hasattr(select, "poll"):  # not on Windows, where the next answer finds out
            background(wire.watch, "sage-stdout")
        yield
    if wire.error is not None and not isinstance(wire.error, ConnectionError):
        with naming("standard output"):
            raise wire.error


class _Answers(io.RawIOBase):
    """A descriptor to write to. What cannot be written is dropped: there is nobody to tell."""

    def __init__(self, target: int, gone: Callable[[], None]) -> None:
        self.target, self._gone = target, gone  # never closed: a thread waits for its end
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        try:
            return os.write(self.target, data)
        except OSError as error:
            self.error = error
            self._gone()
            return memoryview(data).nbytes

    def watch(self) -> None:
        """Wait until the reader is gone, which is otherwise known from the next answer alone."""
        waiting = select.poll()
        waiting.register(self.target, 0)  # errors and hang-ups are always reported
        waiting.poll()
        self._gone()


def _answerable(line: bytes) -> bytes:
    """A message with U+FFFD for halves of surrogate pairs: JSON may have them (``"\\ud83d"``), but the SDK drops such a request."""
    if not _SURROGATE.search(line):
        return line
    try:
        return json.dumps(standard_json(json.loads(line.decode("utf-8", "replace")))).encode() + b"\n"
    except (ValueError, RecursionError):
        return line
