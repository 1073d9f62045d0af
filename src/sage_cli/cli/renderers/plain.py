"""Plain text: the answer on stdout; on stderr only the lines that belong in a script's log."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

from sage_cli.agent.events import Answer, Event, NoAnswer, Notice, RunStarted, WebRequested
from sage_cli.cli import console
from sage_cli.text import media_name

if TYPE_CHECKING:
    from rich.console import Console

    from sage_cli.cli.renderers import Renderer


class Plain:
    """Answers as text.

    With several questions, each answer is indented below its question; with several videos, what belongs to one is indented below its
    label. A blank line separates the blocks.
    """

    def __init__(self, *, several: bool = False, label: str = "", first: bool = True) -> None:
        self._several, self._label = several, label
        self._head = f"{console.neutral(' '.join(label.split()))}\n" if label else ""
        self._separator = "" if first else "\n"

    def show(self, event: Event) -> None:
        match event:
            case Answer(answer=text):
                pass
            case NoAnswer(reason=reason) if self._several or self._label:
                text = f"(no answer: {reason})"
            case _:
                return
        text = console.neutral(text)
        if self._several:
            text = f"{console.neutral(' '.join(event.question.split()))}\n{indent(text, '  ')}"
        if self._label:
            text = indent(text, "  ")
        head, self._head = self._head, ""
        console.write(f"{self._separator}{head}{text}")
        self._separator = "\n" if self._several or self._label else ""


class Styled:
    """Answers in bold on a terminal, wrapped at words."""

    def __init__(self, stdout: Console | None = None) -> None:
        self._console = stdout

    def show(self, event: Event) -> None:
        if not isinstance(event, Answer):
            return
        from rich.text import Text

        self._console = self._console or console.screen()
        self._console.print(Text(console.neutral(event.answer), "bold"))


class Told:
    """Which notices are news: what is to tell about the file is told once, what is about no file once for all that share ``of_all``."""

    def __init__(self, of_all: set[str] | None) -> None:
        self._of_file: set[str] = set()
        self._of_all: set[str] = set() if of_all is None else of_all

    def adds(self, notice: Notice) -> bool:
        told = self._of_all if notice.general else self._of_file
        known = notice.text in told
        if notice.general or notice.media:
            told.add(notice.text)
        return not known


class Notes:
    """Notices, web requests and missing answers as lines on stderr; forwards every event to ``results``.

    Notices are told once; see :class:`Told`. Lines about one of several videos begin with its ``label``.
    """

    def __init__(self, results: Renderer, *, label: str = "", told: set[str] | None = None) -> None:
        self._results = results
        self._name = f"{media_name(label)}: " if label else ""
        self._recalled = False
        self._told = Told(told)

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        self._results.show(event)
        match event:
            case RunStarted(recalled=recalled):
                self._recalled = recalled  # what was told then is not told again
            case Notice() | WebRequested() if self._recalled:
                pass
            case Notice(line=line) if self._told.adds(event):
                console.note(line if event.general else f"{self._name}{line}")
            case WebRequested(line=line):
                console.note(f"{self._name}web: {line}")
            case NoAnswer(reason=reason):
                console.say(f"{self._name}no answer: {reason}")
