"""A run as a stream of typed events. Everything a user sees is a rendering of this stream.

``elapsed`` is in seconds since the run started; spans are in seconds of the original video. :func:`as_record` gives the JSON object of the
``--jsonl`` stream, documented in ``docs/events.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from sage_cli.model.base import ModelInfo, Usage
from sage_cli.text import Note
from sage_cli.tools.base import What
from sage_cli.web.base import Purpose


@dataclass(frozen=True, slots=True)
class Span:
    """A time span of the original video, in seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A time span that the answer is based on, and how it was examined; ``said`` there, if the answer is from a transcript."""

    span: Span
    what: What
    said: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a run that are in effect; they may be lower than requested."""

    frames: int
    frame_width: int
    frame_height: int
    context_size: int
    max_steps: int
    timeout_s: float | None
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A question begins.

    Attributes:
        asked: when, in UTC (ISO 8601).
        sage: version of sage.
        settings: the options that answers depend on, as far as they differ from their defaults, and digests of the files that they read.
        fingerprint: of the video's content.
        recalled: the run is one of the log, not a new one.
    """

    type: ClassVar[str] = "run_started"
    elapsed: float
    question: str
    video: str
    duration: float
    span: Span
    model: ModelInfo
    budget: Budget
    asked: str = ""
    sage: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    fingerprint: str = ""
    recalled: bool = False


@dataclass(frozen=True, slots=True)
class FramesSampled:
    """The frames of the first look, with their presentation times in seconds."""

    type: ClassVar[str] = "frames_sampled"
    elapsed: float
    times: tuple[float, ...]
    method: str


@dataclass(frozen=True, slots=True)
class Working:
    """Progress within a step, for progress bars; not part of the ``--jsonl`` stream."""

    type: ClassVar[str] = "working"
    elapsed: float
    step: int
    stage: Literal["load", "frames", "encode", "prefill", "speech", "web"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A request to the model. Step 0 is the first look (context VLM); later steps are text-only reasoning."""

    type: ClassVar[str] = "step_started"
    elapsed: float
    step: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of one text field of the model's reply, e.g. ``video_context`` or ``answerable.reasoning``."""

    type: ClassVar[str] = "text_delta"
    elapsed: float
    step: int
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The model's reply is complete; ``usage`` is that call's alone."""

    type: ClassVar[str] = "step_finished"
    elapsed: float
    step: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool starts. ``tool`` is the paper's name; ``span`` is the time span it will examine, if any."""

    type: ClassVar[str] = "tool_called"
    elapsed: float
    step: int
    tool: str
    arguments: dict[str, Any] = field(hash=False)
    rationale: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class WebRequested:
    """A tool is about to send a request to a host. The event precedes the request.

    Attributes:
        purpose: a search; a page; the target of a page's redirect; or a host's ``robots.txt``, read before its first page.
        host: the recipient.
        text: the search words, or the full address.
    """

    type: ClassVar[str] = "web_requested"
    elapsed: float
    step: int
    tool: str
    purpose: Purpose
    host: str
    text: str

    @property
    def line(self) -> str:
        """For people: ``search duckduckgo.com for "who wrote Emma"``, or ``open https://...``."""
        match self.purpose:
            case "search":
                return f'search {self.host} for "{self.text}"'
            case "redirect":
                return f"open {self.text} (redirected)"
        return f"open {self.text}"


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool has finished.

    Attributes:
        ok: False if the tool failed; ``result["error"]`` then holds the error text that the model was given.
        repeated: the call was identical to an earlier one, whose result was used again.
        summary: one line for people.
        usage: sum over the model calls that the tool made.
    """

    type: ClassVar[str] = "tool_finished"
    elapsed: float
    step: int
    tool: str
    ok: bool
    repeated: bool
    result: dict[str, Any] = field(hash=False)
    summary: str
    span: Span | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Notice:
    """One line of information for the user: a limit that took effect, an assumption that was made.

    Attributes:
        advice: what the user can do about it with options; ``""`` for nothing. Records and reports leave it out.
        media: it is about the file, not this run; every question about the file may have it, once.
        general: it is about neither; every question about any file may have it.
    """

    type: ClassVar[str] = "notice"
    elapsed: float
    text: str
    advice: str = ""
    media: bool = False
    general: bool = False

    @property
    def line(self) -> str:
        """For the user: the text and the advice."""
        return str(Note(self.text, self.advice))


@dataclass(frozen=True, slots=True)
class Answer:
    """The run ended with an answer. It has the attributes of :class:`NoAnswer`, too.

    Attributes:
        answer: in words, or the JSON of ``value``.
        usage: the whole run's.
        value: the answer under the user's JSON schema; ``None`` without one.
    """

    type: ClassVar[str] = "answer"
    reason: ClassVar[None] = None
    elapsed: float
    question: str
    answer: str
    steps: int
    evidence: tuple[Evidence, ...]
    usage: Usage
    value: Any = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The run reached a limit without an answer. It has the attributes of :class:`Answer`, too."""

    type: ClassVar[str] = "no_answer"
    answer: ClassVar[None] = None
    value: ClassVar[None] = None
    elapsed: float
    question: str
    reason: str
    steps: int
    evidence: tuple[Evidence, ...]
    usage: Usage


Event: TypeAlias = (
    RunStarted
    | FramesSampled
    | Working
    | StepStarted
    | TextDelta
    | StepFinished
    | ToolCalled
    | WebRequested
    | ToolFinished
    | Notice
    | Answer
    | NoAnswer
)


def as_record(event: Event) -> dict[str, Any]:
    """The event as a JSON-ready object, ``type`` first, seconds rounded to milliseconds."""
    record = {"type": event.type, **_rounded(asdict(event))}
    match event:  # the user's numbers stay as they are
        case Answer(value=value):
            record["value"] = value
        case RunStarted(settings=settings):
            record["settings"] = {**settings}
    return record


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 3)
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
    return value
