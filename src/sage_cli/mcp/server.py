"""The MCP tools, on one session whose model stays loaded between calls.

Native libraries block for seconds, so all work runs in a worker thread while the event loop answers the client, reports progress and
receives cancellations. The worker checks for these between events; within one, waits and native calls are interrupted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import closing
from functools import partial
from typing import Annotated, Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from sage_cli.agent.events import Answer, Event, NoAnswer, Notice, StepStarted, ToolCalled, ToolFinished, WebRequested, Working
from sage_cli.errors import SageError
from sage_cli.hardware.threads import background
from sage_cli.mcp import wire
from sage_cli.mcp.folders import Folders
from sage_cli.session import Session
from sage_cli.session.ground import Found, checked, ground
from sage_cli.signals import check_interrupted, interrupted_by
from sage_cli.timecode import format_clock, format_clock_ms, parse, parse_within
from sage_cli.version import __version__
from sage_cli.video import Video

T = TypeVar("T")

_MOST_FRAMES: Final = 16  # images of one reply: clients pay for each
_LONGEST_SIDE: Final = 768  # pixels
_REPORT_EVERY_S: Final = 0.25
_INTERRUPT_EVERY_S: Final = 0.05
_GLANCE_S: Final = 0.1  # between checks of a waiting thread

INSTRUCTIONS: Final = (
    "Answers questions about video and audio files on this machine, with a local model. Ask for what is seen or said; times are HH:MM:SS "
    "in the file. Use `transcribe` for words, `find_event` for the time of something seen, `frames` to look yourself."
)

Path = Annotated[str, Field(description="Path of the video or audio file, absolute or relative to an allowed folder.")]
Time = str | float
Start = Annotated[Time | None, Field(description="Begin at this time: HH:MM:SS, MM:SS or seconds.")]
End = Annotated[Time | None, Field(description="Stop at this time.")]
Notices = Annotated[list[str], Field(description="What limits the result: parts of the file that are damaged or missing.")]


class Evidence(BaseModel):
    """A span of the video that the answer is based on, and how it was examined."""

    start: str
    end: str
    how: str


class Answered(BaseModel):
    """The answer to a question; if ``answer`` is null, ``reason`` says why."""

    answer: str | None
    reason: str | None = None
    evidence: list[Evidence]
    tools_used: list[str]
    notices: Notices


class Said(BaseModel):
    """One segment of a transcript; times are HH:MM:SS."""

    start: str
    end: str
    text: str


class Transcript(BaseModel):
    """The transcript, in time order."""

    language: str | None
    segments: list[Said]
    notices: Notices


class Occurrence(BaseModel):
    """Where an event happens."""

    start: str
    end: str


class Occurrences(BaseModel):
    """Where an event happens; an empty list if it was not found."""

    event: str
    found: list[Occurrence]
    notices: Notices


class Installed(BaseModel):
    """A model of the catalogue, or an installed one."""

    name: str
    kind: str
    about: str
    installed: bool


class Models(BaseModel):
    """All models, and the one in use."""

    in_use: str | None
    models: list[Installed]


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
            while not self._busy.acquire(timeout=_GLANCE_S):
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
            raise ToolError(str(error)) from error
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


def make_server(worker: Worker, folders: Folders) -> MCPServer:
    """A server whose tools open files in these folders. The caller closes the worker, after the server has ended."""
    server: MCPServer = MCPServer("sage", title="sage", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")

    @server.tool()
    async def ask(
        video: Path,
        question: Annotated[str, Field(description="What you want to know about the video.")],
        context: Context,
        start: Start = None,
        end: End = None,
    ) -> Answered:
        """Answer a question about a video: its pictures, its speech, when things happen. A second question about it is quick."""

        def work(session: Session, report: Callable[[str], None]) -> Answered:
            path = folders.resolve(video)
            _load(session, session.video(path), report)
            with closing(session.ask(path, question, start=_time(start), end=_time(end))) as events:
                return _answered(events, report)

        return await worker.run(context, work)

    @server.tool()
    async def transcribe(media: Path, context: Context, start: Start = None, end: End = None) -> Transcript:
        """Transcribe the speech of a video or recording, with times."""

        def work(session: Session, report: Callable[[str], None]) -> Transcript:
            return _transcribed(session, session.video(folders.resolve(media)), (_time(start), _time(end)), report)

        return await worker.run(context, work)

    @server.tool()
    async def find_event(
        video: Path,
        event: Annotated[str, Field(description="What is seen when it happens, such as 'the goal' or 'a slide with a table'.")],
        context: Context,
        start: Start = None,
        end: End = None,
    ) -> Occurrences:
        """Find when something is seen in a video."""

        def work(session: Session, report: Callable[[str], None]) -> Occurrences:
            wanted, opened = checked(event), session.video(folders.resolve(video))
            _load(session, opened, report)
            spans: list[tuple[float, float]] = []
            notices: list[str] = []
            for step in ground(session, opened, wanted, start=_time(start), end=_time(end)):
                report("looking")
                if isinstance(step, Found):
                    spans += step.spans
                    notices += step.notices
                    report(f"looked up to {format_clock(step.end)}")
            found = [Occurrence(start=format_clock_ms(first), end=format_clock_ms(last)) for first, last in spans]
            return Occurrences(event=wanted, found=found, notices=[*notices, *(notice.text for notice in opened.notices)])

        return await worker.run(context, work)

    @server.tool(structured_output=False)
    async def frames(
        video: Path,
        times: Annotated[list[Time], Field(description="Times: HH:MM:SS, MM:SS or seconds.", min_length=1, max_length=_MOST_FRAMES)],
        context: Context,
    ) -> list[Any]:
        """Return frames of a video at given times, as JPEG images, each after its time."""

        def work(session: Session, report: Callable[[str], None]) -> list[Any]:
            opened = session.video(folders.resolve(video))
            return _pictures(opened, [parse_within(_written(time), opened.duration) for time in times], report)

        return await worker.run(context, work)

    @server.tool()
    async def list_models() -> Models:
        """List the models that can answer and transcribe, and which one is in use."""
        return await anyio.to_thread.run_sync(lambda: _models(worker.session))

    return server


def run(session: Session, folders: Folders) -> None:
    """Serve on stdin and stdout until the client closes one of them."""
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")  # a wrong argument is told in words, without a link to a library's page
    worker = Worker(session)
    try:
        with wire.client():
            make_server(worker, folders).run("stdio")
    finally:
        worker.close()


def _load(session: Session, video: Video, report: Callable[[str], None]) -> None:
    """Wait for the model. llama.cpp cannot be stopped while it reads a file, so a cancelled call leaves it loading, for the next one."""
    video.require_picture()
    session.check(video)
    loading = session.load()
    while not wait([loading], _GLANCE_S).done:
        report("loading the model")
    loading.result()


def _transcribed(session: Session, video: Video, span: tuple[float | None, float | None], report: Callable[[str], None]) -> Transcript:
    segments = []
    with closing(session.transcribe(video.name, start=span[0], end=span[1])) as found:
        for segment in found:
            report(f"transcribed to {format_clock(segment.end)}")
            segments.append(segment)
    said = [Said(start=format_clock_ms(one.start), end=format_clock_ms(one.end), text=one.text) for one in segments]
    notices = [notice.text for notice in video.notices]
    if not said:
        notices.append(f"there is no {'speech' if video.has_audio else 'sound'}: the transcript is empty")
    return Transcript(language=segments[0].language if segments else None, segments=said, notices=notices)


def _pictures(video: Video, times: list[float], report: Callable[[str], None]) -> list[Any]:
    """Frames as JPEG images, each after its time; then the notices."""
    import cv2

    scale = min(1.0, _LONGEST_SIDE / max(video.width, video.height, 1))
    size = (max(2, round(video.width * scale)), max(2, round(video.height * scale)))
    shown: list[Any] = []
    with closing(video.frames(times, size)) as reader:
        for frame in reader:
            report(f"frame at {format_clock(frame.time)}")
            image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
            shown += [f"{format_clock_ms(frame.time)}:", Image(data=cv2.imencode(".jpg", image)[1].tobytes(), format="jpeg")]
    return shown + [f"Notice: {notice.text}." for notice in video.notices]


# ---- what events mean to a client ----------------------------------------------------------------------------------


def _answered(events: Iterator[Event], report: Callable[[str], None]) -> Answered:
    used: list[str] = []
    notices: list[str] = []
    for event in events:
        match event:
            case Working(stage=stage, done=done, total=total):
                report(f"{stage} {done}/{total}" if total else stage)
            case StepStarted(step=step):
                report(f"step {step}" if step else "first look")
            case ToolCalled(tool=tool):
                used.append(tool)
                report(tool)
            case ToolFinished(summary=summary):
                report(summary)
            case WebRequested() as request:
                report(request.line)
            case Notice(text=text):
                notices.append(text)
                report(text)
            case Answer() | NoAnswer():
                evidence = [
                    Evidence(start=format_clock_ms(one.span.start), end=format_clock_ms(one.span.end), how=one.what)
                    for one in event.evidence
                ]
                reason = event.reason if isinstance(event, NoAnswer) else None
                return Answered(answer=event.answer, reason=reason, evidence=evidence, tools_used=used, notices=notices)
            case _:
                report("thinking")
    raise ToolError("the run ended without an answer")


def _models(session: Session) -> Models:
    from sage_cli.assets import NANO
    from sage_cli.store.catalogue import catalogue
    from sage_cli.store.install import installed

    have = {model.name: model.kind for model in installed()}
    models = [Installed(name=NANO.name, kind="vision", about="comes with sage; knows coloured shapes alone", installed=True)]
    models += [
        Installed(name=entry.name, kind=entry.kind, about=entry.about, installed=entry.name in have) for entry in catalogue().values()
    ]
    known = {entry.name for entry in catalogue().values()}
    models += [Installed(name=name, kind=kind, about="", installed=True) for name, kind in have.items() if name not in known]
    own = [name for name, kind in have.items() if kind == "vision"]
    default = own[0] if len(own) == 1 else None
    return Models(in_use=session.model_name if session.remote else session.options.model or default, models=models)


def _time(given: Time | None) -> float | None:
    return None if given is None else parse(_written(given))


def _written(time: Time) -> str:
    """A time as a person writes it; numbers are seconds, to the millisecond."""
    return time if isinstance(time, str) else f"{time:.3f}".rstrip("0").rstrip(".")
