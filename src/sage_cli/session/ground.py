"""Find events without a question: runs the ground-event tool on a whole video, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sage_cli.errors import UsageError
from sage_cli.timecode import format_clock

if TYPE_CHECKING:
    from sage_cli.session.session import Session
    from sage_cli.video import Video

WINDOW_S: Final = 600.0  # seconds of video per call of the tool


@dataclass(frozen=True, slots=True)
class Found:
    """One searched window.

    Attributes:
        start, end: the window, in seconds.
        spans: when the event happens in it, in seconds of the video.
    """

    start: float
    end: float
    spans: tuple[tuple[float, float], ...]


def checked(event: str) -> str:
    """An event without blanks around it.

    Raises:
        UsageError: it is empty.
    """
    if not (event := event.strip()):
        raise UsageError("the event is empty: write what is seen when it happens")
    return event


def ground(session: Session, video: Video, event: str, *, start: float | None = None, end: float | None = None) -> Iterator[Found | None]:
    """Find an event in a video or a part of it.

    Yields:
        :class:`Found` for each window in order; ``None`` in between, so that the caller can stop.

    Raises:
        SageError: the event is empty; the video, the model or an option cannot be used.
    """
    event = checked(event)
    from sage_cli.tools.base import ToolError
    from sage_cli.tools.ground_event import GroundEvent, GroundEventArguments

    tool = GroundEvent()
    first, last = session.span(video, start, end)
    agent = session.agent(video, start=first, end=last)
    count = max(1, round((last - first) / WINDOW_S + 0.499))
    length = (last - first) / count
    with agent.workspace() as workspace:
        for number in range(count):
            begin, until = first + number * length, first + (number + 1) * length
            arguments = GroundEventArguments(
                video_path=workspace.video_path,
                event=event,
                timestamp_start=format_clock(begin),
                timestamp_end=format_clock(until if number < count - 1 else last + 1),
            )
            spans: tuple[tuple[float, float], ...] = ()
            with closing(tool.run(arguments, workspace)) as run:
                try:
                    while True:
                        next(run)
                        yield None
                except StopIteration as stop:
                    spans = tuple((look.start, look.end) for look in stop.value.evidence)
                except ToolError:  # the model's times make no sense: nothing found here
                    pass
            yield Found(begin, until, spans)
