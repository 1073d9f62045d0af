"""Find events without a question: runs the ground-event tool on a whole video, window by window, and on the rest of each after a hit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

from sage_cli.errors import ModelError, NoReplyError, UsageError
from sage_cli.timecode import format_span

if TYPE_CHECKING:
    from sage_cli.session.session import Session
    from sage_cli.tools.workspace import Workspace
    from sage_cli.video import Video

WINDOW_S: Final = 600.0  # seconds of video per call of the tool
MOST_CALLS: Final = 40  # per window; a model that sees the event everywhere would not end
_LEAST_S: Final = 5.0  # seconds of a window's rest that are worth a call

Span: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Found:
    """What is known after a call of the model.

    Attributes:
        until: what is before this time, in seconds of the video, needs no more calls.
        spans: when the event happens, in seconds of the video, after those given before: at least a second each, apart from each other.
        held: found, too, but what is before them or follows them is still to be searched. They are given later, perhaps as parts of longer
            ones.
        notices: what the user should know of the search: that fewer frames fit the context, once; that a reply could not be read; that a
            window had all its calls.
        calls: of the model so far.
    """

    until: float
    spans: tuple[Span, ...]
    held: tuple[Span, ...] = ()
    notices: tuple[str, ...] = ()
    calls: int = 0


def checked(event: str) -> str:
    """An event without blanks around it.

    Raises:
        UsageError: it is empty.
    """
    if not (event := event.strip()):
        raise UsageError("the event is empty: write what is seen when it happens")
    return event


def ground(
    session: Session,
    video: Video,
    event: str,
    *,
    start: float | None = None,
    end: float | None = None,
    quick: bool = False,
    margin: float = 0.0,
) -> Generator[Found | None]:
    """Find when an event happens in a video or a part of it.

    A call of the model finds one span at most. The rest of the window is then searched: what is before the span, and what is after it.

    Args:
        quick: call the model once per window.
        margin: seconds to add before and after what is found, inside the video.

    Yields:
        :class:`Found` after each call; ``None`` in between, so that the caller can stop.

    Raises:
        SageError: the event is empty; the video, the model or an option cannot be used; no reply of the model can be read.
    """
    event = checked(event)
    from sage_cli.tools.ground_event import NoTimesError

    video.require_picture()
    first, last = session.span(video, start, end)
    agent = session.agent(video, start=first, end=last)
    told: set[str] = set()
    with agent.workspace() as workspace:
        search = _Search(workspace, quick=quick, margin=margin)
        windows, unread = len(search.ahead), 0
        while search.ahead:
            part = search.take()
            notices: list[str] = []
            try:
                span = yield from _look(workspace, event, part, notices)
                search.found(part, span)
            except NoTimesError as error:
                unread += 1
                if unread == windows:
                    raise NoReplyError(f"the video could not be searched: {error}; try another model") from error
                notices.append(f"{format_span(part.start, part.end)} could not be searched: {error}")
            notices += search.proceed()
            fresh = [notice for notice in dict.fromkeys(notices) if notice not in told]
            told.update(fresh)
            spans, held = search.give()
            yield Found(min(search.until, last), spans, held, tuple(fresh), search.calls.total())


def _look(workspace: Workspace, event: str, part: _Part, notices: list[str]) -> Generator[None, None, Span | None]:
    """One call of the model. What limits it is noted for whole windows alone: their rests are shorter, and so less limited."""
    from sage_cli.tools.base import ToolError, ToolNotice, Watched
    from sage_cli.tools.ground_event import GroundEvent, GroundEventArguments, NoTimesError

    arguments = GroundEventArguments(
        video_path=workspace.video_path,
        event=event,
        timestamp_start=f"{part.start:.3f}",
        timestamp_end=f"{part.end:.3f}",
    )
    with closing(GroundEvent().run(arguments, workspace)) as run:
        try:
            for step in (steps := Watched(run)):
                if isinstance(step, ToolNotice) and part.whole:
                    notices.append(str(step))
                yield None
        except NoTimesError:
            raise
        except ToolError as error:
            raise ModelError(f"{error}; raise --ctx-size, or lower --frame-tokens") from error
    return next(((look.start, look.end) for look in steps.result.evidence), None)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a window, by number: to be searched, or a span that was found there."""

    start: float
    end: float
    window: int
    whole: bool = False
    hit: bool = False


class _Search:
    """The plan of a search: what is ahead, the next one last, and the spans that were passed and are not yet given.

    It goes by time: what is before a hit is searched before the hit is passed, and what is after it then.

    Attributes:
        calls: of the model, by window.
    """

    def __init__(self, workspace: Workspace, *, quick: bool, margin: float) -> None:
        style = workspace.prompts.style
        self._least = max(_LEAST_S, style.smallest_window_s)
        self._from_zero = style.clips_from_zero
        self._most = 1 if quick else MOST_CALLS
        self._margin, self._duration = margin, workspace.video.duration
        first, length = workspace.start, workspace.end - workspace.start
        count = max(1, math.ceil(length / WINDOW_S - 0.001))
        edges = [first + length * number / count for number in range(count + 1)]
        self._windows = [window for edge in pairwise(edges) for window in self._unambiguous(*edge)]
        self.ahead = [_Part(*window, number, whole=True) for number, window in enumerate(self._windows)][::-1]
        self.calls: Counter[int] = Counter()
        self._spans: list[Span] = []

    @property
    def until(self) -> float:
        """Everything before this time is done."""
        return self.ahead[-1].start if self.ahead else math.inf

    def take(self) -> _Part:
        """The next part to search."""
        part = self.ahead.pop()
        self.calls[part.window] += 1
        return part

    def found(self, part: _Part, span: Span | None) -> None:
        """Plan the rest of a part in which this was found."""
        if span is None:
            return
        rest = [(part.start, span[0]), *self._unambiguous(span[1], part.end)]
        before, *after = [[_Part(*one, part.window)] if one[1] - one[0] >= self._least else [] for one in rest]
        self.ahead += [one for parts in reversed(after) for one in parts] + [_Part(*span, part.window, hit=True)] + before

    def proceed(self) -> Iterator[str]:
        """Pass what needs no call: hits, and parts of windows that had all their calls. Yields what the user should know of these."""
        full = -1
        while self.ahead and ((part := self.ahead[-1]).hit or self.calls[part.window] >= self._most):
            self.ahead.pop()
            if part.hit:
                self._spans = _joined([*self._spans, self._widened(part)])
            elif self._most > 1 and part.window != full:
                full = part.window
                rest = format_span(part.start, self._windows[full][1])
                yield f"{rest} may show more: its window had all its {self._most} calls of the model; search that part alone"

    def give(self) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        """Spans that nothing ahead can touch, each once; and all others."""
        from sage_cli.tools.ground_event import SHORTEST_S

        done = [span for span in self._spans if span[1] + SHORTEST_S + self._margin <= self.until]
        self._spans = self._spans[len(done) :]
        hits = [self._widened(part) for part in reversed(self.ahead) if part.hit]
        return tuple(done), tuple(_joined([*self._spans, *hits]))

    def _widened(self, hit: _Part) -> Span:
        return max(0.0, hit.start - self._margin), min(hit.end + self._margin, self._duration)

    def _unambiguous(self, start: float, end: float) -> Iterator[Span]:
        """The parts of a span to search one by one. Models that count from a clip's start may also count from the video's: the time tells
        which, if the clip is no longer than what is before it."""
        while self._from_zero and start > 0 and end - start >= (length := max(start, self._least)) + self._least:
            yield start, start + length
            start += length
        yield start, end


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
