"""The interface of tools: a name, an argument model, a schema of the arguments that are valid at the moment, and ``run``.

The description given to the model is part of the prompt pack (``tools.jsonl``), which a user can replace.
A tool runs in a :class:`Workspace`: one video, the media made from it so far, and the models it may use. It can be used from Python
without the agent: ``outcome = complete(Analyze().run(arguments, workspace))``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from sage_cli.text import Note
from sage_cli.web.base import Request

if TYPE_CHECKING:
    from sage_cli.speech.merge import Entry
    from sage_cli.tools.workspace import Workspace


class Arguments(BaseModel):
    """Base of the argument models; field names are the wire keys."""

    # Numbers given for times are accepted as text.
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class WindowArguments(Arguments):
    """Of a tool that examines a time span."""

    video_path: str
    timestamp_start: str
    timestamp_end: str


class ToolError(Exception):
    """The call cannot be executed. The model is shown the message and may recover."""


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Progress of a tool: frames decoded, vision slices encoded, prompt tokens read, pieces of text written, or seconds transcribed."""

    stage: Literal["frames", "encode", "prefill", "decode", "speech"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ToolNotice(Note):
    """Information for the user, e.g. a timestamp that was corrected.

    Attributes:
        media: it is about the file, not this call.
    """

    media: bool = False


What: TypeAlias = Literal[
    "frames sampled",
    "speech transcribed",
    "subtitles read",
    "event grounded",
    "frames extracted",
    "frames analyzed",
    "clip analyzed",
]


@dataclass(frozen=True, slots=True)
class EvidenceSpan:
    """A time span of the original video, in seconds, that a tool examined, and how; of a transcript what was said in it, too."""

    start: float
    end: float
    what: What
    said: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a tool.

    Attributes:
        result: JSON-ready object in the wire shape.
        summary: one line for people.
        evidence: the time spans it examined.
        text: what the model reads of it; empty for ``result`` in Python's notation, as in training.
    """

    result: dict[str, Any]
    summary: str
    evidence: tuple[EvidenceSpan, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        return self.text or str(self.result)


# A tool that yields a Request sends it when the generator is resumed, and does not when it is closed.
ToolRun: TypeAlias = Generator[ToolProgress | ToolNotice | Request, None, Outcome]
A = TypeVar("A", bound=Arguments)
W = TypeVar("W", bound=WindowArguments)
Y = TypeVar("Y")
R = TypeVar("R")


class Tool(ABC, Generic[A]):
    """One of the agent's tools.

    Attributes:
        name: the paper's name (``ground-event``); the wire name lives in :mod:`sage_cli.agent.protocol`.
        title: what a report calls a step with it.
        arguments: the argument model; its fields are the wire keys.
        looks: whether it looks at the picture, which a recording of sound does not have.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    looks: ClassVar[bool] = False
    arguments: type[A]

    @abstractmethod
    def schema(self, workspace: Workspace) -> dict[str, Any] | None:
        """JSON schema of the arguments that are valid *now*: this video's path, media that exist, times inside the video.

        ``None``: the tool cannot be called yet.
        """

    @abstractmethod
    def span(self, arguments: A, workspace: Workspace) -> tuple[float, float] | None:
        """The time span, in seconds, that a call with these arguments will examine."""

    @abstractmethod
    def run(self, arguments: A, workspace: Workspace) -> ToolRun:
        """Execute the call. Raises :class:`ToolError` if that is impossible."""


class WindowTool(Tool[W]):
    """A tool that examines the time span that its arguments name."""

    def span(self, arguments: W, workspace: Workspace) -> tuple[float, float]:
        return workspace.window(arguments)[:2]


AnyTool: TypeAlias = Tool[Any]


class Watched(Generic[Y, R]):
    """The steps of a generator, to loop over; ``result`` is what it returned, after the loop."""

    result: R

    def __init__(self, steps: Generator[Y, None, R]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[Y]:
        self.result = yield from self._steps


def complete(run: Generator[Any, None, R]) -> R:
    """Run a tool, or another generator, to its end and return its result, dropping progress."""
    for _ in (steps := Watched(run)):
        pass
    return steps.result
