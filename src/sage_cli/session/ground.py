"""Find events without a question: runs the ground-event tool on a whole video, window by window."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sage_cli.errors import ModelError, NoReplyError, UsageError
from sage_cli.timecode import format_clock

if TYPE_CHECKING:
    from sage_cli.session.session import Session
    from sage_cli.video import Video

WINDOW_S: Final = 600.0  # seconds of video per call of the tool

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """One searched window.

    Attributes:
        start, end: the window, in seconds.
        spans: when the event happens, in seconds of the video: at least a second each, apart from each other.
        held: those that reach the window's end; they come with the next window, in which they may go on.
        notices: what the user should know of the search: that fewer frames fit the context, once, or that a reply could not be read.
    """

    start: float
    end: float
    spans: tuple[Span, ...]
    held: tuple[Span, ...] = ()
    notices: tuple[str, ...] = ()


def checked(event: str) -> str:
    """An event without blanks around it.

    Raises:
        UsageError: it is empty.
    """
    if not (event := event.strip()):
        raise UsageError("the event is empty: write what is seen when it happens")
    return event


def ground(session: Session, video: Video, event: str, *, start: float | None = None, end: float | None = None) -> Generator[Found | None]:
    """Find an event in a video or a part of it.

    Yields:
        :class:`Found` for each window in order; ``None`` in between, so that the caller can stop.

    Raises:
        SageError: the event is empty; the video, the model or an option cannot be used; no reply of the model can be read.
    """
    event = checked(event)
    from sage_cli.tools.base import ToolError, ToolNotice, Watched
    from sage_cli.tools.ground_event import SHORTEST_S, GroundEvent, GroundEventArguments, NoTimesError

    video.require_picture()
    tool = GroundEvent()
    first, last = session.span(video, start, end)
    agent = session.agent(video, start=first, end=last)
    count = max(1, round((last - first) / WINDOW_S + 0.499))
    length = (last - first) / count
    told: set[str] = set()
    spans: list[Span] = []  # not yet given
    unread = 0  # windows
    with agent.workspace() as workspace:
        for number in range(count):
            begin, until = first + number * length, first + (number + 1) * length
            arguments = GroundEventArguments(
                video_path=workspace.video_path,
                event=event,
                timestamp_start=f"{begin:.3f}",
                timestamp_end=f"{until:.3f}",
            )
            notices: list[str] = []
            with closing(tool.run(arguments, workspace)) as run:
                try:
                    for step in (steps := Watched(run)):
                        if isinstance(step, ToolNotice) and step.text not in told:
                            told.add(step.text)
                            notices.append(step.text)
                        yield None
                    spans = _joined([*spans, *((look.start, look.end) for look in steps.result.evidence)])
                except NoTimesError as error:
                    unread += 1
                    if unread == count:
                        raise NoReplyError(f"the video could not be searched: {error}; try another model") from error
                    notices.append(f"{format_clock(begin)}-{format_clock(until)} could not be searched: {error}")
                except ToolError as error:
                    raise ModelError(f"{error}; raise --ctx-size, or lower --frame-tokens") from error
            done = [span for span in spans if number == count - 1 or until - span[1] >= SHORTEST_S]
            spans = spans[len(done) :]
            yield Found(begin, until, tuple(done), tuple(spans), tuple(notices))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those with less than a second between them as one: the times of models are not finer."""
    from sage_cli.tools.ground_event import SHORTEST_S

    joined: list[Span] = []
    for start, end in spans:
        if joined and start - joined[-1][1] < SHORTEST_S:
            before = joined.pop()
            start, end = min(before[0], start), max(before[1], end)
        joined.append((start, end))
    return joined
