"""``sage ground VIDEO EVENT``: when something is seen."""

from __future__ import annotations

import sys
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sage_cli.cli import console
from sage_cli.cli.options import check_forms, takes
from sage_cli.errors import EXIT_NO_ANSWER, SageError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sage_cli.session.ground import Span


EXAMPLES = """[bold]Examples[/]
  sage ground match.mp4 "a goal is scored"
  sage ground match.mp4 "a goal is scored" --as edl > goals.edl
  sage ground match.mp4 "a goal is scored" --json | jq .spans"""


@takes("ground")
def ground(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video file.", show_default=False, parser=str)],
    event: Annotated[str, typer.Argument(metavar="EVENT", help="What is seen when it happens.", show_default=False, parser=str)],
    form: Annotated[
        Literal["text", "edl", "ffmetadata"], typer.Option("--as", help="Times, a CMX 3600 edit list, or FFmpeg chapters.")
    ] = "text",
    *,
    options: Options,
) -> int:
    """Find when something is seen in a video.

    The model looks through the video in windows of ten minutes. Each line is one span, as it is found. Exit code 5: it was not found,
    or the model's replies could not be read.
    """
    from sage_cli.cli.batch import progress
    from sage_cli.cli.interrupts import interrupts
    from sage_cli.cli.marks import edl, ffmetadata
    from sage_cli.cli.offer import offer
    from sage_cli.cli.opening import damage_told, ready
    from sage_cli.session import Session
    from sage_cli.session.ground import checked
    from sage_cli.session.ground import ground as look
    from sage_cli.text import from_argument

    check_forms(options, form)
    console.need_stdout()
    wanted = checked(from_argument(event))
    spans: list[Span] = []
    notices: list[str] = []
    visible, lines = sys.stderr.isatty() and not options.quiet, not options.json and form == "text"
    with Session(options, offer=offer) as session:
        opened = ready(session, video)
        steps = look(session, opened, wanted)
        show = progress(opened.label, *session.span(opened)) if visible else nullcontext()
        held: tuple[Span, ...] = ()
        try:
            with damage_told(session, opened), closing(steps) as found, interrupts() as stop_if_asked, show as advance:
                for step in found:
                    stop_if_asked()
                    if step is None:
                        continue
                    spans += step.spans
                    notices += step.notices
                    for notice in () if options.quiet else step.notices:
                        console.say(notice)
                    if advance:
                        advance(step.end)
                    if lines:
                        _write(step.spans)
                    held = step.held
        except (SageError, KeyboardInterrupt):
            if lines:
                _write(held)  # the search is over, so they do not go on
            raise
        if options.json:
            found_at = [{"start": start, "end": end} for start, end in spans]
            notices += [notice.text for notice in opened.notices]
            console.write(console.dumps({"event": wanted, "video": str(video), "spans": found_at, "notices": notices}))
        elif form == "edl":
            console.write(edl(spans, opened.label, opened.fps or 25.0, opened.timecode))
        elif form == "ffmetadata":
            console.write(ffmetadata([(*span, wanted) for span in spans]))
    if not spans and not options.quiet:
        console.say(f"not found: {wanted}")
    return 0 if spans else EXIT_NO_ANSWER


def _write(spans: Iterable[Span]) -> None:
    from sage_cli.timecode import format_clock

    for start, end in spans:
        console.write(f"{format_clock(start)}-{format_clock(end)}")
