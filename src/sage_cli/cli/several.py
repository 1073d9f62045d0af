"""Questions about one video or several: in turn with one model, or in worker processes with a model each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sage_cli.agent.events import Event, Working
from sage_cli.agent.record import Recorder, RunRecord
from sage_cli.cli import console
from sage_cli.cli.batch import Failure, report
from sage_cli.cli.evidence import save_evidence
from sage_cli.cli.opening import introduce, opened, tell_plan
from sage_cli.cli.options import output_form
from sage_cli.cli.renderers import Renderer, follow, renderer
from sage_cli.errors import EXIT_NO_ANSWER, LibraryError, ModelError, SageError, UsageError
from sage_cli.session.conversation import Conversation
from sage_cli.session.options import Options
from sage_cli.store import NotInstalledError

if TYPE_CHECKING:
    from pathlib import Path

    from sage_cli.session import Session


class Asking:
    """Asks the same questions about each of some videos, and shows the answers."""

    def __init__(self, session: Session, questions: Sequence[str]) -> None:
        self._session, self._options, self._questions = session, session.options, questions
        self._runs: list[tuple[RunRecord, str]] = []  # what was asked and answered, with the video's name as given
        self._started = False
        self._told: set[str] = set()  # notices that are about no video

    def about(self, names: Sequence[str], *, several: bool) -> int:
        """Ask about each video; return the exit code.

        Args:
            several: answers name their video, and videos that fail are reported at the end.

        Raises:
            SageError: the model cannot be used, stdin is given twice, or the only video fails.
        """
        failures: list[Failure] = []
        answered = True
        for outcome in self._in_parallel(names) if self._options.jobs > 1 and len(names) > 1 else self._in_turn(names, several):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                self._show_failure(outcome)
            else:
                answered &= outcome
        self._tell_recalled()
        return report(failures, len(names)) or (0 if answered else EXIT_NO_ANSWER)

    def save(self) -> None:
        """Save the evidence that the options ask for.

        Raises:
            SageError, OSError: it cannot be written.
        """
        if self._options.report or self._options.clips or self._options.stills:
            save_evidence(self._options, [(run, self._session.as_asked(run, name)) for run, name in self._runs])

    # ---- in this process -------------------------------------------------------------------------------------------

    def _in_turn(self, names: Sequence[str], several: bool) -> Iterator[bool | Failure]:
        for name in names:
            try:
                yield self._ask(name, name if several else "")
            except (SageError, OSError) as error:
                if not several or isinstance(error, BrokenPipeError) or self._concerns_all(error):
                    raise
                yield Failure.of(name, error)

    def _concerns_all(self, error: SageError | OSError) -> bool:
        """Whether other videos would fail, too: the model or a library cannot be loaded, or its server does not answer."""
        from sage_cli.model.refusals import UnreachableError

        loaded = "model" in vars(self._session)
        return isinstance(error, (UnreachableError, NotInstalledError, LibraryError)) or (isinstance(error, ModelError) and not loaded)

    def _ask(self, name: str, label: str) -> bool:
        session = self._session
        # Cheap checks first: a mistyped path is reported before a model is loaded.
        session.check(opened(session, name, label))
        starts, self._started = not self._started, True
        if starts:
            introduce(session)
        with self._view(label) as view:
            if starts:
                view.show(Working(0.0, 0, "load", 0, 0))
                tell_plan(session)
            conversation = Conversation(session, name, linked=False)
            try:
                answered = [follow(conversation.ask(question), view) for question in self._questions]
            finally:  # a later question may fail
                self._runs += [(run, name) for run in conversation.runs]
        self._tell(conversation.log_problem)
        return all(answered)

    # ---- in worker processes ---------------------------------------------------------------------------------------

    def _in_parallel(self, names: Sequence[str]) -> Iterator[bool | Failure]:
        """Outcomes as they are ready."""
        from sage_cli.bench.pool import Died, work_here

        session, options = self._session, self._options
        if options.web == "ask":
            raise UsageError("--web=ask asks in turn: leave out --jobs")
        introduce(session)
        tell_plan(session)
        # A worker has neither stdin nor the descriptors behind other pipes, and a pipe can be read only once.
        copies = {name: session.pipes.copied(name) for name in names}
        work = work_here(
            partial(Worker, session.resolved(), tuple(self._questions), options), copies.items(), min(options.jobs, len(names))
        )
        with closing(work) as outcomes:
            for (name, _), outcome in outcomes:
                if isinstance(outcome, Died):
                    yield Failure(name, outcome.reason)
                    continue
                answered = self._show(name, outcome)
                yield outcome.failure or answered

    def _show(self, name: str, outcome: Answered) -> bool:
        recorder, answered = Recorder(), True
        with self._view(name, live=False) as view:
            for event in outcome.events:
                view.show(event)
                if run := recorder.feed(event):
                    self._runs.append((run, name))
                    answered &= run["answer"] is not None
        self._tell(outcome.log_problem)
        return answered

    # ---- what is shown ---------------------------------------------------------------------------------------------

    def _view(self, label: str, *, live: bool = True) -> AbstractContextManager[Renderer]:
        several, first = len(self._questions) > 1, not self._runs
        return renderer(self._options, several=several, label=label, first=first, live=live, told=self._told)

    def _tell_recalled(self) -> None:
        if recalled := sum(bool(run.get("recalled")) for run, _ in self._runs):
            console.note(f"from the log: {recalled} of {len(self._runs)} answers")

    def _show_failure(self, failure: Failure) -> None:
        form = output_form(self._options)
        failure.write(form)
        if form == "text" and console.shows_progress():
            console.say(f"{failure.source} failed; going on with the others")

    def _tell(self, problem: str) -> None:
        if problem and problem not in self._told:
            console.note(problem)
            self._told.add(problem)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a worker did for a video: the events but those of progress, of all questions up to one that failed."""

    events: tuple[Event, ...]
    log_problem: str
    failure: Failure | None


class Worker:
    """Asks about videos in a worker process; the parent shows the answers."""

    def __init__(self, options: Options, questions: Sequence[str], given: Options) -> None:
        from sage_cli.session import Session

        console.quiet = True  # the parent tells what there is to tell
        self._session, self._questions = Session(options), questions
        self._session.given = given
        _ = self._session.model

    def __call__(self, item: tuple[str, Path | None]) -> Answered:
        name, copy = item
        conversation = Conversation(self._session, name, linked=False)
        events: list[Event] = []
        failure = None
        try:
            self._session.pipes.add(name, copy)
            self._session.check(self._session.video(name))
            for question in self._questions:
                events += (event for event in conversation.ask(question) if not isinstance(event, Working))
        except (SageError, OSError) as error:
            failure = Failure.of(name, error)
        return Answered(tuple(events), conversation.log_problem, failure)
