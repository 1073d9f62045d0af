"""Checks and runs the tool call of a step, and keeps its result for the reasoner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final

from pydantic import ValidationError

from sage_cli.agent.asking import Steps
from sage_cli.agent.events import Event, Notice, Span, ToolCalled, ToolFinished, WebRequested, Working
from sage_cli.agent.protocol import WIRE_NAMES, RecommendedTools
from sage_cli.agent.results import Call, Results
from sage_cli.agent.stopwatch import Stopwatch
from sage_cli.errors import MediaReadError, VideoError
from sage_cli.tools import WEB_TOOLS
from sage_cli.tools.base import AnyTool, Arguments, Outcome, ToolError, ToolNotice, Watched
from sage_cli.tools.workspace import Workspace
from sage_cli.video import SilentError
from sage_cli.web.base import Request, WebError

# A part of the video or a page that cannot be read is a result: the model can look elsewhere. Other errors end the run: it can do nothing
# about a full disk, too little memory or a broken model.
_RESULTS: Final = (ToolError, VideoError, WebError)


class ToolRunner:
    """Runs the tool calls of a run.

    Args:
        tools: the enabled tools.
        workspace: the video and the media extracted from it.
        results: receives the outcomes.
        watch: the run's clock and time limit.
        consent: asked before a request is sent.
        web_hint: mentions, once, that web tools could be enabled.
    """

    def __init__(
        self,
        tools: Sequence[AnyTool],
        workspace: Workspace,
        results: Results,
        watch: Stopwatch,
        consent: Callable[[WebRequested], bool] | None,
        web_hint: Callable[[float, str], Notice | None],
    ) -> None:
        self._tools = {WIRE_NAMES[tool.name]: tool for tool in tools}
        self._workspace, self._results, self._watch = workspace, results, watch
        self._consent, self._web_hint = consent, web_hint

    def act(self, step: int, recommended: RecommendedTools | None) -> Iterator[Event]:
        """Run the call that a reply asks for and keep its outcome.

        Args:
            recommended: what the reply says about tools; ``None`` if it claims to have an answer and gives none.
        """
        wanted = recommended.call if recommended else None
        tool = self._tools.get(wanted.name) if wanted else None
        if wanted is None or tool is None:
            if wanted:
                yield self._missing(wanted.name)
            asked = recommended is not None and recommended.needed
            if wanted and self._workspace.prompts.style.names_tools:
                self._results.add_nothing(asked=asked, why=f"There is no tool {wanted.name!r}; the tools are {', '.join(self._tools)}.")
            else:
                self._results.add_nothing(asked=asked)
            return
        # Unknown arguments are ignored, as in the reference.
        given = {name: value for name, value in wanted.arguments.items() if name in tool.arguments.model_fields and value is not None}
        span: tuple[float, float] | None = None
        outcome: Outcome | str | None = None
        try:
            arguments = tool.arguments.model_validate(given)
            span = tool.span(arguments, self._workspace)
        except ValidationError as error:
            outcome = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        except ToolError as error:
            outcome = str(error)
        where = Span(*span) if span else None
        yield ToolCalled(self._watch.elapsed, step, tool.name, given, wanted.rationale, where)
        self._watch.check()
        call, before = Call(wanted.name, given, span), self._workspace.usage
        earlier = self._results.earlier(call)
        if earlier is not None:
            outcome = earlier
            self._results.add_again(call)
        else:
            outcome = outcome or (yield from self._run(step, tool, arguments))
            self._results.add(call, outcome)
        if isinstance(outcome, str):
            result, summary = {"error": outcome}, outcome
        else:
            result, summary = outcome.result, outcome.summary
        ok, usage = not isinstance(outcome, str), self._workspace.usage - before
        yield ToolFinished(self._watch.elapsed, step, tool.name, ok, earlier is not None, result, summary, where, usage)

    def _missing(self, name: str) -> Notice:
        """What to tell of a call that cannot be made."""
        elapsed, is_web = self._watch.elapsed, name in {WIRE_NAMES[tool] for tool in WEB_TOOLS}
        hint = self._web_hint(elapsed, "the model wanted to ask the web") if is_web else None
        return hint or Notice(elapsed, f"the model called {name!r}, which is not one of its tools")

    def _run(self, step: int, tool: AnyTool, arguments: Arguments) -> Steps[Outcome | str]:
        """Run a tool to its outcome, or to its error text."""
        with closing(tool.run(arguments, self._workspace)) as run:
            try:
                for item in (steps := Watched(run)):
                    if isinstance(item, ToolNotice):
                        yield Notice(self._watch.elapsed, f"{tool.name}: {item.text}", item.advice, media=item.media)
                    elif isinstance(item, Request):
                        if not (yield from self._allowed(step, tool, item)):
                            return "the user did not allow this request"
                        yield Working(self._watch.elapsed, step, "web", 0, 0)
                    # The length of a model's reply is unknown, so it is no progress; only the time limit is checked.
                    elif item.stage != "decode":
                        yield Working(self._watch.elapsed, step, item.stage, item.done, item.total)
                    self._watch.check()
                return steps.result
            except (MediaReadError, SilentError):
                raise  # the video itself has gone or changed, or there is nothing in it to look for
            except _RESULTS as error:
                return str(error)

    def _allowed(self, step: int, tool: AnyTool, request: Request) -> Steps[bool]:
        """Announce a request, and ask whether it may be sent."""
        event = WebRequested(self._watch.elapsed, step, tool.name, request.purpose, request.host, request.text)
        yield event
        with self._watch.paused():
            return self._consent is None or self._consent(event)
