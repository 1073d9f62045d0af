"""``sage ground VIDEO EVENT``: when something is seen."""

from __future__ import annotations

from contextlib import closing
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from sage_cli.cli import console
from sage_cli.cli.options import argument, check_forms, takes
from sage_cli.errors import EXIT_NO_ANSWER, SageError, UsageError
from sage_cli.session.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sage_cli.session.ground import Found, Span
    from sage_cli.video import Video

Form: TypeAlias = Literal["text", "csv", "edl", "ffmetadata"]
_CSV_HEAD: Final = "start,end,event"

EXAMPLES = """[bold]Examples[/]
  sage ground match.mp4 "a goal is scored"
  sage ground match.mp4 "a goal is scored" --clips goals/ --margin 5
  sage ground match.mp4 "a goal is scored" --as edl > goals.edl
  sage ground match.mp4 "a goal is scored" --json | jq .spans"""


@takes("ground")
def ground(
    video: Annotated[str, argument("VIDEO", "Video file.")],
    event: Annotated[str, argument("EVENT", "What is seen when it happens.")],
    form: Annotated[Form, typer.Option("--as", help="Times, a table, a CMX 3600 edit list, or FFmpeg chapters.")] = "text",
    quick: Annotated[bool, typer.Option("--quick", help="Look once: find one span per window at most.")] = False,
    *,
    options: Options,
) -> int:
    """Find when something is seen in a video.

    The model looks through windows of ten minutes. After each find it looks through the rest of the window. Each line is one span, in
    order of time. Exit code 5: it was not found, or the model's replies could not be read.
    """
    from sage_cli.cli.bars import progress
    from sage_cli.cli.evidence import check_evidence
    from sage_cli.cli.interrupts import interrupts
    from sage_cli.cli.offer import offer
    from sage_cli.cli.opening import damage_told, ready
    from sage_cli.session import Session
    from sage_cli.session.ground import ground as look

    check_forms(options, form)
    wanted = _event(video, event)
    check_evidence(options, [video])
    console.need_stdout()
    with Session(options, offer=offer) as session:
        opened = ready(session, video)
        results = _Results(options, form, opened, wanted)
        steps = look(session, opened, wanted, quick=quick, margin=options.margin)
        bar = progress(opened.label, *session.span(opened))
        try:
            with damage_told(opened), closing(steps) as found, interrupts() as stop_if_asked, bar as advance:
                for step in found:
                    stop_if_asked()
                    if step is None:
                        continue
                    results.add(step)
                    advance(step.until)
        except (SageError, OSError, KeyboardInterrupt, SystemExit):
            results.break_off()
            raise
        results.end()
    if not results.spans:
        console.note(f"not found: {wanted}")
    return 0 if results.spans else EXIT_NO_ANSWER


def _event(video: str, event: str) -> str:
    """The event that was typed."""
    from sage_cli.cli.batch import exists, names_medium
    from sage_cli.session.ground import checked
    from sage_cli.text import from_argument, is_link

    if names_medium(event):
        if names_medium(video) or exists(video) or is_link(video):
            raise UsageError(f'{event} is a file, not an event: sage ground {quote(video)} "what is seen when it happens"')
        raise UsageError(f"the video comes before the event: sage ground {quote(event)} {quote(from_argument(video))}")
    return checked(from_argument(event))


class _Results:
    """What was found, printed in a form: lines as they come, other forms at the end."""

    def __init__(self, options: Options, form: Form, video: Video, event: str) -> None:
        self.spans: list[Span] = []
        self._options, self._video, self._event = options, video, event
        self._form = "json" if options.json else form
        self._last: Found | None = None
        self._notices: list[str] = []

    def add(self, step: Found) -> None:
        from sage_cli.cli.evidence import save_spans

        self._last = step
        self._notices += step.notices
        for notice in step.notices:
            console.note(notice)
        self._print(step.spans)
        save_spans(self._options, self._video, step.spans)

    def break_off(self) -> None:
        """The search ends early, so nothing more comes of what is held. There are no clips of that: they take time."""
        from sage_cli.timecode import format_clock

        if self._last is None or not (self.spans or self._last.held):
            return
        self._notices.append(f"the search was broken off at {format_clock(self._last.until)}")
        self._print(self._last.held)
        self.end()

    def end(self) -> None:
        """Print what needs all spans."""
        from sage_cli.cli.marks import edl, ffmetadata

        video = self._video
        if self._form == "csv" and not self.spans:
            console.write(_CSV_HEAD)
        elif self._form == "json":
            spans = [{"start": start, "end": end} for start, end in self.spans]
            notices = [*self._notices, *(notice.text for notice in video.notices)]
            calls = self._last.calls if self._last else 0
            console.write(console.dumps({"event": self._event, "video": video.name, "spans": spans, "calls": calls, "notices": notices}))
        elif self._form == "edl":
            console.write(edl(self.spans, video.label, video.fps or 25.0, video.timecode))
        elif self._form == "ffmetadata":
            console.write(ffmetadata([(*span, self._event) for span in self.spans]))

    def _print(self, spans: Sequence[Span]) -> None:
        from sage_cli.speech.formats import csv_row
        from sage_cli.timecode import format_span

        for start, end in spans:
            if self._form == "text":
                console.write(format_span(start, end))
            elif self._form == "csv":
                if not self.spans:
                    console.write(_CSV_HEAD)
                console.write(csv_row(f"{start:.3f}", f"{end:.3f}", self._event), end="")
            self.spans.append((start, end))
