"""sage-cli: questions about videos, answered on the user's own machine (SAGE, arXiv 2512.13874).

    >>> import sage_cli
    >>> sage_cli.ask("talk.mp4", "What is it about?").answer
    >>> with sage_cli.open_session(model="qwen3-vl-4b") as session:
    ...     for event in session.ask("talk.mp4", "Who speaks first?"):
    ...         print(event)

Options have the same names as on the command line; options not given come from the environment and the settings file. Importing the package
loads no libraries; the first question does. It only configures how OpenMP threads wait; see :mod:`sage_cli.hardware.openmp`.
"""

from __future__ import annotations

from sage_cli.hardware.openmp import bound_spinning
from sage_cli.version import __version__

bound_spinning()  # here, since nothing of the package is imported before, and so no library that computes

TYPE_CHECKING = False  # to a type checker it is true; typing itself takes longer to import than all the rest
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from sage_cli.agent.events import (
        Answer,
        Event,
        FramesSampled,
        NoAnswer,
        Notice,
        RunStarted,
        StepFinished,
        StepStarted,
        TextDelta,
        ToolCalled,
        ToolFinished,
        WebRequested,
        Working,
        as_record,
    )
    from sage_cli.errors import ModelError, SageError, UsageError, VideoError
    from sage_cli.session import Options, Session
    from sage_cli.speech import Segment
else:

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in __all__:
            for module in ("errors", "session", "agent.events", "speech"):  # what loads no libraries first
                try:
                    return getattr(import_module(f"sage_cli.{module}"), name)
                except AttributeError:
                    continue
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Answer",
    "Event",
    "FramesSampled",
    "ModelError",
    "NoAnswer",
    "Notice",
    "Options",
    "RunStarted",
    "SageError",
    "Segment",
    "Session",
    "StepFinished",
    "StepStarted",
    "TextDelta",
    "ToolCalled",
    "ToolFinished",
    "UsageError",
    "VideoError",
    "WebRequested",
    "Working",
    "__version__",
    "as_record",
    "ask",
    "open_session",
    "transcribe",
]


def ask(video: str | Path, question: str, **options: Any) -> Answer | NoAnswer:
    """Answer one question about a video.

    Returns:
        The last event of the run: ``answer`` is the text, or ``None`` without an answer; ``evidence`` lists the parts it is based on.

    Raises:
        SageError: the video, the model or an option cannot be used.
    """
    from sage_cli.agent.events import Answer, NoAnswer

    with open_session(**options) as session:
        last = None
        for event in session.ask(video, question):
            last = event
    assert isinstance(last, Answer | NoAnswer)
    return last


def transcribe(media: str | Path, **options: Any) -> list[Segment]:
    """Transcribe a video or recording: segments with ``start`` and ``end`` in seconds, ``text`` and ``language``.

    Raises:
        SageError: the media, the speech model or an option cannot be used.
    """
    with open_session(**options) as session:
        return list(session.transcribe(media))


def open_session(options: Options | None = None, **overrides: Any) -> Session:
    """A session for several questions; see :func:`sage_cli.session.open_session`."""
    from sage_cli.session import open_session

    return open_session(options, **overrides)
