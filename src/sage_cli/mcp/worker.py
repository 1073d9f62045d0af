"""One session for all calls: its model stays loaded between them.

Native libraries block for seconds, so all work runs in a worker thread while the event loop answers the client, reports progress and
receives cancellations. The worker checks for these between events; within one, waits and native calls are interrupted.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from sage_cli.errors import SageError, machine_trouble
from sage_cli.hardware.threads import background
from sage_cli.session import Session
from sage_cli.signals import check_interrupted, interrupted_by

T = TypeVar("T")

GLANCE_S: Final = 0.1  # between checks of a waiting thread
_REPORT_EVERY_S: Final = 0.25
_INTERRUPT_EVERY_S: Final = 0.05


class Worker:
    """Runs one call at a time on a session, in a thread, with progress and cancellation.

    Args:
        session: used only by the worker thread.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._busy = threading.Lock()
        self._call: threading.Event | None = None  # set when the call that the session works on is cancelled
        self._call_lock = threading.Lock()

    async def run(self, context: Context, work: Callable[[Session, Callable[[str], None]], T]) -> T:
        """Run ``work(session, report)``; ``report`` sends progress to the client and raises if it has cancelled.

        Raises:
            ToolError: the work failed; the message is for the client.
        """
        cancelled = threading.Event()
        reported = 0
        last = 0.0

        def report(message: str) -> None:
            nonlocal reported, last
            anyio.from_thread.check_cancelled()
            if time.monotonic() - last >= _REPORT_EVERY_S or not reported:
                reported, last = reported + 1, time.monotonic()
                anyio.from_thread.run(context.report_progress, float(reported), None, message)

        def locked() -> T:
            # A cancelled call may not have ended yet.
            while not self._busy.acquire(timeout=GLANCE_S):
                anyio.from_thread.check_cancelled()
            with self._call_lock:
                self._call = cancelled
            try:
                with interrupted_by(cancelled):
                    check_interrupted()
                    return work(self.session, report)
            except KeyboardInterrupt:
                raise ToolError("cancelled") from None
            finally:
                with self._call_lock:
                    self._call = None
                self._busy.release()

        try:
            return await anyio.to_thread.run_sync(locked, abandon_on_cancel=True)
        except (SageError, OSError) as error:
            raise ToolError(_told(error)) from error
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            background(partial(self._interrupt, cancelled), "sage-cancel")
            raise

    def close(self) -> None:
        """Wait for the end of a call that was cancelled. The session may be closed after it."""
        self._busy.acquire()

    def _interrupt(self, cancelled: threading.Event) -> None:
        """Interrupt the session until a cancelled call has ended: whisper.cpp only sees an interrupt that comes while it decodes."""
        while True:
            with self._call_lock:  # an interrupt never reaches the call after it
                if self._call is not cancelled:
                    return
                self.session.interrupt()
            time.sleep(_INTERRUPT_EVERY_S)


def _told(error: SageError | OSError) -> str:
    return for_agent(
        machine_trouble(error) if isinstance(error, OSError) else str(error), "; a shorter part, from start to end, also needs less room"
    )


def for_agent(message: str, besides: str = "") -> str:
    """A message for an agent, who does not start the server and cannot give it options.

    Args:
        besides: what the agent can do itself.
    """
    if not re.search(r"(^|\s)(--[a-z]|SAGE_)", message):
        return message
    return f"{message} (options are for the person who starts 'sage mcp'{besides})"
