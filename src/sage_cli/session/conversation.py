"""Several questions about one video; each sees the earlier ones."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sage_cli.agent.events import Notice, RunStarted
from sage_cli.agent.record import Recorder, RunRecord, recalled
from sage_cli.errors import SageError
from sage_cli.session import log
from sage_cli.session.arguments import question_argument
from sage_cli.session.origin import settings
from sage_cli.session.session import Session
from sage_cli.text import STDIN
from sage_cli.version import __version__

if TYPE_CHECKING:
    from sage_cli.agent.events import Event
    from sage_cli.video import Video

_SAME_S: Final = 0.001  # to which spans are rounded in records
# In place of an answer that need not hold in the part asked about now: asked the same of another part, a model repeats what it said. The
# question stays, for later ones refer to it.
_ELSEWHERE: Final = "(This was about another part of the video.)"


class Conversation:
    """Asks one session about one video.

    Args:
        session: must stay open while the conversation is used.
        video: its path or link.
        resume: continue the newest conversation about this video in the log.
        linked: let each question see the earlier ones.

    Attributes:
        id: shared by all its log entries.
        runs: questions and answers in order; see :mod:`sage_cli.agent.record`.
        span: the part of the video to ask about, in seconds; ``None`` to use the options.
        tools: whether the model may use tools.
        log_problem: why the last question could not be logged; ``""`` if it was logged or logging is off.

    Raises:
        SageError: the video or the log cannot be read.
    """

    def __init__(self, session: Session, video: str | Path, *, resume: bool = False, linked: bool = True) -> None:
        self.session, self.name, self._linked = session, str(video), linked
        self.id = secrets.token_hex(8)
        self.runs: list[RunRecord] = []
        self.span: tuple[float, float] | None = None
        self.tools = session.options.tools
        self.log_problem = ""
        if resume and (newest := log.newest(1, media=self.video.id)):
            self.id = newest[0].conversation
            self.runs = [entry.record for entry in reversed(log.newest(1000, conversation=self.id))]

    @property
    def video(self) -> Video:
        """The video as it is now.

        Raises:
            VideoError: it cannot be read any more.
        """
        return self.session.video(self.name)

    @property
    def earlier(self) -> list[tuple[str, str]]:
        """Questions about the video as it is now that were answered, with their answers as far as they are about the part that is asked
        about now; none for the bundled nano model, which was not trained on conversations."""
        if not self._linked or self.session.bundled:
            return []
        video = self.video
        start, end = self.session.span(video, *(self.span or ()))
        return [
            (str(run["question"]), str(run["answer"]) if start - _SAME_S <= span["start"] and span["end"] <= end + _SAME_S else _ELSEWHERE)
            for run, span in ((run, run["span"]) for run in self.runs if run["answer"] is not None and run["fingerprint"] == video.id)
        ]

    def subjects(self) -> list[tuple[RunRecord, Video | str]]:
        """All runs, each with the video if it still is what the run was about; else with a line that says why it is not."""
        return [(run, self.session.as_asked(run, self.name)) for run in self.runs]

    def ask(self, question: str) -> Generator[Event]:
        """Answer a question. Before the last event the run is recorded, and logged if the options say so. With the option ``resume``, a run
        of the log that asked the same takes its place.

        Raises:
            SageError: as :meth:`Session.ask`.
        """
        start, end = self.span or (None, None)
        if self.session.options.resume and (earlier := self._earlier(question)):
            self.runs.append(earlier)
            yield from recalled(earlier)
            return
        recorder = Recorder()
        with closing(self.session.ask(self.name, question, start=start, end=end, earlier=self.earlier, tools=self.tools)) as events:
            for event in events:
                if run := recorder.feed(event):  # before anybody sees the answer: who has seen it may stop here
                    self.runs.append(run)
                    self._log(run)
                yield event
                if isinstance(event, RunStarted) and self._linked and self.runs and self.runs[-1]["fingerprint"] != event.fingerprint:
                    text = f"{self.video.label} has changed: earlier questions and answers are about what it was, and are not used"
                    recorder.feed(notice := Notice(event.elapsed, text))
                    yield notice

    def _earlier(self, question: str) -> RunRecord | None:
        """The newest run of the log with the same question, video, part of it, model, options and version of sage."""
        session, span = self.session, self.session.span(self.video, *(self.span or ()))
        same = {"sage": __version__, "settings": settings(session, self.video, {"tools": self.tools, "earlier": len(self.earlier)})}
        found = [
            run
            for run in (entry.record for entry in log.of_question(question_argument(question), media=self.video.id))
            if abs(run["span"]["start"] - span[0]) <= _SAME_S and abs(run["span"]["end"] - span[1]) <= _SAME_S
            if {name: run.get(name) for name in same} == same
        ]
        runs = [run for run in found if run["model"]["name"] == session.model_name]
        if found and not runs and session.remote:  # the server is asked only if no run has the name that was given
            runs = [run for run in found if run["model"]["name"] == session.served_name]
        return {**runs[0], "recalled": True, "video": self.video.name} if runs else None

    def _log(self, run: RunRecord) -> None:
        """Log a run, if the options say so. A log that cannot be written does not fail the answer."""
        if not self.session.options.log:
            return
        try:
            log.add(run, media=run["fingerprint"], video=_absolute(self.name), conversation=self.id)
        except SageError as error:
            self.log_problem = str(error)


def _absolute(name: str) -> str:
    return name if "://" in name or name == STDIN else str(Path(name).absolute())
