"""What a tool is: a name, an argument model, a schema of its arguments as they can be now, and a ``run``.

What a model is told about it is wording, and lies with the other texts that a user can replace: ``tools.jsonl`` of a prompt pack.
A tool runs in a :class:`Workspace`: one video, the media made from it so far, and the models it may use. It can be used from Python
without the agent: ``outcome = complete(Analyze().run(arguments, workspace))``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from sage_cli.model.base import Usage
from sage_cli.web.base import Request

if TYPE_CHECKING:
    from sage_cli.tools.workspace import Workspace


class Arguments(BaseModel):
    """Base of the argument models; field names are the wire keys."""

    # Numbers for times and the like are read as the text that was meant.
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class ToolError(Exception):
    """The call cannot be served. The text goes back to the model, which may recover."""


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Work done inside a tool: frames decoded, vision slices encoded, prompt tokens prefilled, pieces of text written, or seconds heard."""

    stage: Literal["frames", "encode", "prefill", "decode", "speech"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ToolNotice:
    """Something the user should know, e.g. a timestamp that was repaired."""

    text: str


What: TypeAlias = Literal["frames sampled", "speech transcribed", "event grounded", "frames extracted", "frames analyzed", "clip analyzed"]


@dataclass(frozen=True, slots=True)
class Looked:
    """A stretch of the original video, in seconds, that a tool examined, and how."""

    start: float
    end: float
    what: What


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool gives back.

    Attributes:
        result: JSON-ready object in the wire shape; the model reads it.
        summary: one line for people.
        looked: the stretches of video it examined.
        usage: of the model calls it made.
    """

    result: dict[str, Any]
    summary: str
    looked: tuple[Looked, ...] = ()
    usage: Usage = field(default_factory=Usage)


# A tool that yields a Request sends it when it is asked to go on, and does not when it is closed.
ToolRun: TypeAlias = Generator[ToolProgress | ToolNotice | Request, None, Outcome]
A = TypeVar("A", bound=Arguments)


class Tool(ABC, Generic[A]):
    """One of the agent's tools.

    Attributes:
        name: the paper's name (``ground-event``); the wire name lives in :mod:`sage_cli.agent.protocol`.
        arguments: the argument model; its fields are the wire keys.
    """

    name: ClassVar[str]
    arguments: type[A]

    @abstractmethod
    def schema(self, workspace: Workspace) -> dict[str, Any] | None:
        """JSON schema of the arguments as they can be *now*: this video's path, media that exist, times inside the video.

        ``None``: there is nothing yet that it could be called with.
        """

    @abstractmethod
    def span(self, arguments: A, workspace: Workspace) -> tuple[float, float] | None:
        """The stretch of video, in seconds, that a call with these arguments will look at."""

    @abstractmethod
    def run(self, arguments: A, workspace: Workspace) -> ToolRun:
        """Do it. Raises :class:`ToolError` when it cannot be done."""


AnyTool: TypeAlias = Tool[Any]


def complete(run: ToolRun) -> Outcome:
    """Run a tool to its end and return its outcome, dropping progress."""
    try:
        while True:
            next(run)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome
