"""``sage summary VIDEO``: what a video is about, and its chapters."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.options import argument, check_forms, takes
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from sage_cli.session import Session
    from sage_cli.session.summary import Summary
    from sage_cli.video import Video


EXAMPLES = """[bold]Examples[/]
  sage summary talk.mp4
  sage summary talk.mp4 --as youtube
  sage summary talk.mp4 --as ffmetadata > chapters.txt"""

_STAGES = {"speech": "transcribing", "pictures": "finding chapters", "chapters": "summarizing"}
_YOUTUBE_S = 10.0  # seconds of a chapter at least, by YouTube's rules


@takes("summary")
def summary(
    video: Annotated[str, argument("VIDEO", "Video or recording.")],
    form: Annotated[
        Literal["text", "md", "youtube", "ffmetadata", "json"],
        typer.Option("--as", help="Text, Markdown, YouTube or FFmpeg chapters, JSON."),
    ] = "text",
    *,
    options: Options,
) -> int:
    """Summarize a video and its chapters.

    Chapters begin where pictures and words change. The model reads one at a time, so a video can have any length. After an
    interruption, rerun the command to resume.
    """
    from sage_cli.cli.offer import offer
    from sage_cli.cli.opening import damage_told, ready
    from sage_cli.session import Session

    check_forms(options, form)
    console.need_stdout()
    with Session(options, offer=offer) as session:
        opened = ready(session, video)
        if session.bundled:
            console.note("nano was not trained to summarize: its words mean nothing here, and only show what a summary looks like")
        if subtitles := session.subtitle_trouble(opened) if options.subtitles else "":
            console.note(subtitles)
        with damage_told(opened):
            made = _made(session, opened)
    for notice in made.notices:
        console.note(notice)
    if form == "youtube" and int(made.chapters[0].start) > 0:
        console.note("YouTube shows chapters only if the first is at 0:00: add a line at 0:00")
    if options.schema is not None:
        console.write(console.dumps(made.value))
    elif options.json or form == "json":
        record: dict[str, Any] = {"video": opened.name, "duration": round(opened.duration, 3), **asdict(made)}
        del record["value"]
        record["notices"] = [*filter(None, [subtitles]), *made.notices, *(notice.text for notice in opened.notices)]
        console.write(console.dumps(record))
    else:
        (tables.text if form == "text" else console.write)(console.neutral(_FORMS[form](made)))
    return 0


def _made(session: Session, video: Video) -> Summary:
    """The summary, with a bar for each stage on a terminal."""
    from contextlib import ExitStack

    from sage_cli.cli.bars import progress
    from sage_cli.cli.interrupts import interrupts, resumable
    from sage_cli.session.summary import summarize
    from sage_cli.tools.base import Watched

    shown = ""
    with closing(summarize(session, video)) as steps, interrupts() as stop_if_asked, resumable(), ExitStack() as bar:
        for stage in (read := Watched(steps)):
            stop_if_asked()
            if stage is None:
                continue
            if stage.name != shown:
                bar.close()
                shown, advance = stage.name, bar.enter_context(progress(_STAGES[stage.name], 0, stage.total))
            advance(stage.done)
        return read.result


# ---- formats -------------------------------------------------------------------------------------------------------


def _text(made: Summary) -> str:
    from sage_cli.timecode import format_clock

    parts = [f"{format_clock(one.start)}  {one.title}\n          {one.summary}".rstrip() for one in made.chapters]
    return "\n\n".join(filter(None, [made.title, made.summary, *parts]))


def _markdown(made: Summary) -> str:
    from sage_cli.text import escape_markdown as shown
    from sage_cli.timecode import format_clock

    parts = [f"## {format_clock(one.start)} {shown(one.title)}\n\n{shown(one.summary)}".rstrip() for one in made.chapters]
    return "\n\n".join(filter(None, [f"# {shown(made.title)}", shown(made.summary), *parts]))


def _youtube(made: Summary) -> str:
    """Lines for the description of the whole video, even of a part. Chapters too short for YouTube are left out."""
    from sage_cli.timecode import format_short

    lines, last = [], -_YOUTUBE_S
    for one in made.chapters:
        at = int(one.start)
        if at - last >= _YOUTUBE_S:
            lines.append(f"{format_short(at)} {one.title}")
            last = at
    return "\n".join(lines)


def _ffmetadata(made: Summary) -> str:
    from sage_cli.cli.marks import ffmetadata

    return ffmetadata([(one.start, one.end, one.title) for one in made.chapters], made.title)


_FORMS = {"text": _text, "md": _markdown, "youtube": _youtube, "ffmetadata": _ffmetadata}
