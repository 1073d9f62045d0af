"""What a client can call."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import wait
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import anyio.to_thread
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field, Strict

from sage_cli.agent.events import Answer, Event, NoAnswer, Notice, StepStarted, ToolCalled, ToolFinished, WebRequested, Working
from sage_cli.mcp.folders import Folders
from sage_cli.mcp.worker import GLANCE_S, Worker, for_agent
from sage_cli.session import Session
from sage_cli.session.ground import Found, checked, ground
from sage_cli.session.summary import Stage, Summary, summarize
from sage_cli.timecode import format_clock, format_clock_ms, parse, parse_within
from sage_cli.tools.base import Watched
from sage_cli.video import Video, no_speech

if TYPE_CHECKING:
    from sage_cli.speech.segment import Progress, Segment

Report = Callable[[str], None]

_MOST_FRAMES: Final = 16  # images of one reply: clients pay for each
_JPEG_QUALITY: Final = 95
_LONGEST_SIDE: Final = 768  # pixels
_MOST_LISTED: Final = 1000  # paths of one reply
_MOST_FOUND: Final = 200  # occurrences of one reply
_MOST_SAID: Final = 40_000  # bytes of a transcript in one reply: some 10,000 tokens, of which clients take 25,000 or less

Path = Annotated[str, Field(description="Path of the video or audio file, absolute or relative to an allowed folder.")]
Seen = Annotated[str, Field(description="Path of the video file (not of sound alone), absolute or relative to an allowed folder.")]
Time = str | Annotated[float, Strict()]  # true is no second
Start = Annotated[Time | None, Field(description="Begin at this time: HH:MM:SS, MM:SS or seconds.")]
End = Annotated[Time | None, Field(description="Stop at this time.")]
Source = Annotated[
    Literal["auto", "subtitles", "speech"],
    Field(description="What the transcript is made of: its subtitles, its speech, or subtitles where there are any."),
]
Notices = Annotated[list[str], Field(description="What limits the result: parts of the file that are damaged or missing.")]


class Span(BaseModel):
    start: str
    end: str


class Evidence(Span):
    """A span of the video that the answer is based on, how it was examined, and what is said there, if the answer is from a transcript."""

    how: str
    said: str


class Answered(BaseModel):
    """The answer to a question; if ``answer`` is null, ``reason`` says why."""

    answer: str | None
    reason: str | None = None
    evidence: list[Evidence]
    tools_used: list[str]
    notices: Notices


class Occurrence(Span):
    """Where an event happens."""


class Occurrences(BaseModel):
    """Where an event happens; an empty list if it was not found. ``notices`` say what was not searched."""

    event: str
    found: list[Occurrence]
    notices: Notices


class Part(Span):
    """A chapter of a video."""

    title: str
    summary: str


class Summarized(BaseModel):
    """What a video is about, and its chapters in order, without gaps."""

    title: str
    summary: str
    chapters: list[Part]
    notices: Notices


class Media(BaseModel):
    """Paths of videos and recordings, as the other tools take them. ``more`` counts those left out: narrow the list by ``containing``."""

    videos: list[str]
    more: int


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


class Tools:
    """The tools, on one session; they open files in these folders."""

    def __init__(self, worker: Worker, folders: Folders) -> None:
        self._worker, self._folders = worker, folders

    async def list_videos(
        self, containing: Annotated[str, Field(description="Only paths that contain this text, such as a folder or part of a name.")] = ""
    ) -> Media:
        """List the video and audio files that the other tools can open, at most 1000 of them."""
        found = await anyio.to_thread.run_sync(self._folders.media, containing)
        return Media(videos=found[:_MOST_LISTED], more=max(0, len(found) - _MOST_LISTED))

    async def ask(
        self,
        video: Path,
        question: Annotated[str, Field(description="What you want to know about the video.")],
        context: Context,
        start: Start = None,
        end: End = None,
    ) -> Answered:
        """Answer a question about a video: its pictures, its speech, when things happen. A recording of sound is answered from its speech.
        A second question about it is quick."""

        def work(session: Session, report: Report) -> Answered:
            path = self._folders.resolve(video)
            opened = session.video(path)
            session.check_senses(opened)
            _load(session, opened, report)
            with closing(session.ask(path, question, start=_time(start), end=_time(end))) as events:
                return _answered(events, report)

        return await self._worker.run(context, work)

    async def transcribe(self, video: Path, context: Context, start: Start = None, end: End = None, source: Source = "auto") -> str:
        """Transcribe the speech of a video or recording: a line for each sentence or subtitle, after the time at which it begins. A long
        transcript comes in parts; each ends with the start of the next one."""

        def work(session: Session, report: Report) -> str:
            return _transcribed(session, session.video(self._folders.resolve(video)), (_time(start), _time(end)), source, report)

        return await self._worker.run(context, work)

    async def summary(self, video: Path, context: Context, start: Start = None, end: End = None) -> Summarized:
        """Say what a video or recording is about, part by part. Takes long for a long one: all of it is read."""

        def work(session: Session, report: Report) -> Summarized:
            opened = session.video(self._folders.resolve(video))
            _load(session, opened, report)
            made = _summarized(summarize(session, opened, start=_time(start), end=_time(end)), report)
            chapters = [Part(**_clocks(one.start, one.end), title=one.title, summary=one.summary) for one in made.chapters]
            subtitles = session.subtitle_trouble(opened) if session.options.subtitles else ""
            notices = [*filter(None, [subtitles]), *made.notices, *(notice.text for notice in opened.notices)]
            return Summarized(title=made.title, summary=made.summary, chapters=chapters, notices=[*map(for_agent, notices)])

        return await self._worker.run(context, work)

    async def find_event(
        self,
        video: Seen,
        event: Annotated[str, Field(description="What is seen when it happens, such as 'the goal' or 'a slide with a table'.")],
        context: Context,
        start: Start = None,
        end: End = None,
        quick: Annotated[bool, Field(description="Find one occurrence in ten minutes at most, with one call of the model.")] = False,
    ) -> Occurrences:
        """Find when something is seen in a video: all occurrences. A long video takes long."""

        def work(session: Session, report: Report) -> Occurrences:
            wanted, opened = checked(event), session.video(self._folders.resolve(video))
            opened.require_picture()
            first, last = session.span(opened, _time(start), _time(end))
            _load(session, opened, report)
            return _searched(ground(session, opened, wanted, start=first, end=last, quick=quick), wanted, opened, last, report)

        return await self._worker.run(context, work)

    async def frames(
        self,
        video: Seen,
        times: Annotated[list[Time], Field(description="Times: HH:MM:SS, MM:SS or seconds.", min_length=1, max_length=_MOST_FRAMES)],
        context: Context,
    ) -> list[Any]:
        """Return frames of a video at given times, as JPEG images, each after its time."""

        def work(session: Session, report: Report) -> list[Any]:
            opened = session.video(self._folders.resolve(video))
            return _pictures(opened, [parse_within(_written(time), opened.duration) for time in times], report)

        return await self._worker.run(context, work)

    async def list_models(self) -> Models:
        """List the models that can answer and transcribe, and which one is in use."""
        return await anyio.to_thread.run_sync(lambda: models(self._worker.session))


def _load(session: Session, video: Video, report: Report) -> None:
    """Wait for the model. llama.cpp cannot be stopped while it reads a file, so a cancelled call leaves it loading, for the next one."""
    session.check(video)
    loading = session.load()
    while not wait([loading], GLANCE_S).done:
        report("loading the model")
    loading.result()


def _transcribed(session: Session, video: Video, span: tuple[float | None, float | None], source: str, report: Report) -> str:
    """A transcript as lines, as far as a reply goes: what does not fit is not decoded. Then what limits it, and where to read on."""
    from sage_cli.speech.formats import one_line
    from sage_cli.speech.segment import Spoken

    subtitles = session.converted(video, source)
    said, spoken, room, rest = list[str](), Spoken(), _MOST_SAID, list[str]()
    with closing(session.parts(video, subtitles, start=span[0], end=span[1])) as parts:
        for segment in _segments(parts, report):
            line = f"{format_clock(segment.start)}  {one_line(segment)}"
            room -= len(line.encode())
            if room < 0 and said:
                rest = [f"The transcript goes on: {_again(segment.start)}."]
                break
            said.append(line)
            spoken.add(segment)
    notices = [notice.text for notice in video.notices]
    if source != "speech" and (trouble := session.subtitle_trouble(video)):
        notices.append(for_agent(trouble))
    if not said:
        notices.append(f"there is {no_speech(video, *session.span(video, *span))}: the transcript is empty")
    made_of = subtitles.source if subtitles else session.transcriber_name
    head = f"From {made_of}{f', language {spoken.language}' if spoken.language else ''}:"
    return "\n".join([head, *said, *(f"Notice: {notice}." for notice in notices), *rest])


def _segments(parts: Iterator[Progress], report: Report) -> Iterator[Segment]:
    for part in parts:
        report(f"transcribed to {format_clock(part.seconds)}")
        yield from part.segments


def _again(time: float) -> str:
    """How to get the rest, from a time on: rounded up, because what ends there was given."""
    return f"call again with start {format_clock_ms(math.ceil(time * 1000) / 1000)}"


def _searched(steps: Generator[Found | None], event: str, video: Video, end: float, report: Report) -> Occurrences:
    """What a search finds until its end, as many as a reply takes."""
    spans, notices = list[tuple[float, float]](), list[str]()
    with closing(steps):
        for step in steps:
            report("looking")
            if step is None:
                continue
            spans += step.spans
            notices += map(for_agent, step.notices)
            report(f"looked up to {format_clock(step.until)}")
            if len(spans) >= _MOST_FOUND and step.until < end:
                notices.append(f"the search ended here: {_again(spans[-1][1])}")
                break
    found = [Occurrence(**_clocks(*span)) for span in spans]
    return Occurrences(event=event, found=found, notices=[*notices, *(notice.text for notice in video.notices)])


def _summarized(steps: Generator[Stage | None, None, Summary], report: Report) -> Summary:
    with closing(steps):
        for stage in (read := Watched(steps)):
            report(f"{stage.name} {stage.done:.0f}/{stage.total:.0f}" if stage else "reading")
        return read.result


def _pictures(video: Video, times: list[float], report: Report) -> list[Any]:
    """Frames as JPEG images, each after its time; then the notices."""
    shown: list[Any] = []
    with closing(video.frames(times, video.size_within(_LONGEST_SIDE, _LONGEST_SIDE))) as reader:
        for frame in reader:
            report(f"frame at {format_clock(frame.time)}")
            shown += [f"{format_clock_ms(frame.time)}:", Image(data=frame.jpeg(_JPEG_QUALITY), format="jpeg")]
    return shown + [f"Notice: {notice.text}." for notice in video.notices]


# ---- what events mean to a client ----------------------------------------------------------------------------------


def _answered(events: Iterator[Event], report: Report) -> Answered:
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
            case Notice(line=line):
                notices.append(for_agent(line))
                report(line)
            case Answer() | NoAnswer():
                evidence = [Evidence(**_clocks(one.span.start, one.span.end), how=one.what, said=one.said) for one in event.evidence]
                return Answered(answer=event.answer, reason=event.reason, evidence=evidence, tools_used=used, notices=notices)
            case _:
                report("thinking")
    raise ToolError("the run ended without an answer")


def models(session: Session) -> Models:
    from sage_cli.assets import NANO
    from sage_cli.store.catalogue import catalogue
    from sage_cli.store.install import installed

    have = {model.name: model.kind for model in installed()}
    models = [Installed(name=NANO.name, kind="vision", about=NANO.about, installed=True)]
    models += [Installed(name=name, kind=entry.kind, about=entry.about, installed=name in have) for name, entry in catalogue().items()]
    models += [Installed(name=name, kind=kind, about="", installed=True) for name, kind in have.items() if name not in catalogue()]
    own = [name for name, kind in have.items() if kind == "vision"]
    default = own[0] if len(own) == 1 else None
    return Models(in_use=session.model_name if session.remote else session.options.model or default, models=models)


def _clocks(start: float, end: float) -> dict[str, str]:
    return {"start": format_clock_ms(start), "end": format_clock_ms(end)}


def _time(given: Time | None) -> float | None:
    """An optional time. Agents write ``""`` for what they leave out."""
    written = "" if given is None else _written(given)
    return parse(written) if written.strip() else None


def _written(time: Time) -> str:
    """A time as a person writes it; numbers are seconds, to the millisecond."""
    return time if isinstance(time, str) else f"{time:.3f}".rstrip("0").rstrip(".")
