"""The any-horizon loop: look at the video once, answer at once or call a tool, think again with its result, until there is an answer.

A generator of events without any input or output of its own: whoever iterates decides what becomes of them, and may stop at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
from pydantic import ValidationError

from sage_cli.agent.events import (
    Answer,
    Budget,
    Event,
    FramesSampled,
    NoAnswer,
    Notice,
    RunStarted,
    Span,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCalled,
    ToolFinished,
    WebRequested,
    Working,
)
from sage_cli.agent.evidence import evidence
from sage_cli.agent.protocol import (
    WIRE_NAMES,
    WRAP,
    ContextReply,
    FieldStream,
    ReasonerReply,
    ToolCall,
    context_schema,
    read,
    reasoner_schema,
    tool_lines,
)
from sage_cli.agent.results import Call, Result, Results
from sage_cli.errors import ModelError, SageError, VideoError
from sage_cli.model.base import ChatModel, Delta, Frames, Message, Progress, Prompt, Reply, Text, Usage
from sage_cli.prompts import Prompts
from sage_cli.timecode import format_clock
from sage_cli.tools import TOOLS
from sage_cli.tools.base import AnyTool, Arguments, Looked, Outcome, ToolError, ToolNotice
from sage_cli.tools.schema import Schema
from sage_cli.tools.workspace import SpeechModel, Workspace, most, thin
from sage_cli.video import Frame, Sampling, Video, uniform_times
from sage_cli.web.base import Request, addresses_in

R = TypeVar("R", ContextReply, ReasonerReply)
T = TypeVar("T")
Steps: TypeAlias = Generator[Event, None, T]

_RETRY_TEMPERATURE: Final = 0.7
_WEB_TOOLS: Final = frozenset({"web-search", "parse-website"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The limits a run is asked to keep; the defaults are the reference's.

    Attributes:
        frames: most frames of the first look.
        fps: frames a second of the first look, as far as ``frames`` allows.
        sampling: whether the first look takes the frames at its times or the keyframes nearest to them; see :meth:`Video.frames`.
        frame_tokens: most vision tokens a frame pair may take; ``None`` for the model's default.
        max_steps: most calls of the reasoner; 0 makes every answer come from the first look.
        timeout_s: seconds a question may take; ``None`` for no limit.
        reply_tokens: most tokens of a reply; a small context lowers it.
        temperature, seed: of the sampler.
        prompts_dir: where replacements of the prompt texts lie.
    """

    frames: int = 128
    fps: float = 2.0
    sampling: Sampling = "exact"
    frame_tokens: int | None = None
    max_steps: int = 10
    timeout_s: float | None = None
    reply_tokens: int = 2048
    temperature: float = 0.0
    seed: int = 0
    prompts_dir: Path | None = None


class Agent:
    """Answers questions about one video. What one question cost, decoded frames and a loaded speech model, serves the next ones.

    Args:
        model: asked at every step, and by the tools that ask a model themselves.
        video: what the questions are about.
        tools: what it may call; none at all makes every answer come from the first look.
        settings: limits.
        span: the part of the video asked about, in seconds; all of it by default.
        transcriber: loads the speech model; called once, when speech is first needed. ``None``: there is none.
        consent: asked before a tool sends anything to anybody, after the event that tells it; by default that the tool is there is enough.
        clock: seconds from any fixed point; only differences count.

    Raises:
        UsageError: the prompts directory cannot be used.
        VideoError: there are no pictures in the video.
    """

    def __init__(
        self,
        model: ChatModel,
        video: Video,
        *,
        tools: Sequence[AnyTool] = TOOLS,
        settings: Settings | None = None,
        span: tuple[float, float] | None = None,
        transcriber: Callable[[], SpeechModel] | None = None,
        consent: Callable[[WebRequested], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not video.has_video:
            raise VideoError(f"{video.path}: there are no pictures in it; `sage transcribe` reads sound alone")
        self.model = model
        self.video = video
        self.settings = settings or Settings()
        self.tools = tuple(tools) if self.settings.max_steps > 0 else ()
        self.span = Span(*(span or (0.0, video.duration)))
        self.prompts = Prompts(self.settings.prompts_dir)
        self.transcriber = cache(transcriber) if transcriber else None
        self.consent = consent
        self.clock = clock
        # Said once, when the web could have helped: whoever works with private videos need not be told again.
        self.told_of_web = not self.tools or any(tool.name in _WEB_TOOLS for tool in self.tools)
        self.frames: tuple[Frame, ...] | None = None

    @property
    def reply_tokens(self) -> int:
        """Most tokens of a reply: three quarters of the context at least are for what is asked."""
        return min(self.settings.reply_tokens, self.model.info.context_size // 4)

    def run(self, question: str) -> Iterator[Event]:
        """Answer a question. The last event is an :class:`Answer` or a :class:`NoAnswer`.

        Raises:
            SageError: the model or the video failed, or the context is too small for the question and a single frame.
        """
        return _Run(self, question).events()


class _OutOfTime(Exception):
    pass


@dataclass
class _Run:
    """One question on its way to an answer."""

    agent: Agent
    question: str
    results: Results = field(default_factory=Results)
    looked: list[Looked] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    step: int = 0

    def __post_init__(self) -> None:
        self.started = self.agent.clock()
        self.tools = {WIRE_NAMES[tool.name]: tool for tool in self.agent.tools}

    @property
    def elapsed(self) -> float:
        return self.agent.clock() - self.started

    def check_time(self) -> None:
        limit = self.agent.settings.timeout_s
        if limit is not None and self.elapsed > limit:
            raise _OutOfTime

    # ---- the loop --------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        agent = self.agent
        settings = agent.settings
        with Workspace(
            agent.model,
            agent.video,
            span=(agent.span.start, agent.span.end),
            prompts=agent.prompts,
            transcriber=agent.transcriber,
            frames=settings.frames,
            frame_tokens=settings.frame_tokens,
            addresses=addresses_in(self.question),
        ) as self.workspace:
            try:
                yield from self.first_look()
            except _OutOfTime:
                yield self.no_answer(f"the time limit of {settings.timeout_s:g} s was reached")

    def first_look(self) -> Iterator[Event]:
        frames = yield from self.sample()
        self.looked_at = Looked(frames[0].time, frames[-1].time, "frames sampled")
        schema = context_schema(self.agent.tools, self.workspace)
        reply = yield from self.ask(ContextReply, self.context_prompt(frames), schema)
        if reply is None:
            yield self.no_answer("the model's reply could not be read")
        elif self.agent.tools and reply.recommended_tools.needed and reply.recommended_tools.tool_calls:
            yield from self.act(reply.recommended_tools.call)
            yield from self.reason(reply.video_context)
        elif reply.final_answer:
            yield self.answer(reply.final_answer)
        else:
            yield from self.tell_of_web("the video alone gave no answer")
            yield self.no_answer("the model gave none")

    def reason(self, video_context: str) -> Iterator[Event]:
        steps = self.agent.settings.max_steps
        for self.step in range(1, steps + 1):
            last = self.step == steps
            prompt = yield from self.reasoner_prompt(video_context, last)
            reply = yield from self.ask(ReasonerReply, prompt, reasoner_schema(self.agent.tools, self.workspace, last=last))
            if reply is None:
                yield self.no_answer("the model's reply could not be read")
                return
            if reply.answerable.verdict and reply.final_answer:
                yield self.answer(reply.final_answer)
                return
            if not last:
                yield from self.act(None if reply.answerable.verdict else reply.recommended_tools.call)
        yield from self.tell_of_web("the video alone gave no answer")
        yield self.no_answer(f"none was found in {steps} step{'s'[: steps > 1]}")

    def answer(self, text: str) -> Answer:
        return Answer(self.elapsed, self.question, text, self.step, evidence(self.looked or [self.looked_at]), self.usage)

    def no_answer(self, reason: str) -> NoAnswer:
        return NoAnswer(self.elapsed, self.question, reason, self.step, evidence(self.looked), self.usage)

    # ---- the first look --------------------------------------------------------------------------------------------

    def sample(self) -> Steps[tuple[Frame, ...]]:
        """Choose as many frames as the budget and the context allow, say so, and decode them: once for all questions."""
        agent = self.agent
        settings, span, context = agent.settings, agent.span, agent.model.info.context_size
        width, height = self.workspace.frame_size
        if agent.frames is None:
            times = uniform_times(agent.video.duration, settings.frames, fps=settings.fps, start=span.start, end=span.end)
        else:
            times = [frame.time for frame in agent.frames]
        # Whether they fit is known before any is decoded: only their size counts.
        pixels = np.broadcast_to(np.uint8(0), (height, width, 3))
        blanks = [Frame(at, pixels, f"blank:{width}x{height}") for at in times]
        room = context - agent.reply_tokens
        count = most(len(times), lambda number: agent.model.count_tokens(self.context_prompt(thin(blanks, number))) <= room)
        tools = tuple(tool.name for tool in agent.tools)
        budget = Budget(count, width, height, context, settings.max_steps if tools else 0, settings.timeout_s, tools)
        yield RunStarted(self.elapsed, self.question, str(agent.video.path), agent.video.duration, span, agent.model.info, budget)
        if agent.model.info.host:
            yield self.notice(f"frames and prompts are sent to {agent.model.info.host}")
        if count == 0:
            raise ModelError(
                f"the question and one frame do not fit a context of {context} tokens; raise --ctx-size or lower --frame-tokens"
            )
        if count < len(times):
            yield self.notice(f"{count} of {len(times)} frames: more do not fit the context of {context} tokens")
        method = "reused"
        if agent.frames is None:
            reader = agent.video.frames(thin(times, count), (width, height), sampling=settings.sampling)
            method = reader.method
            frames: dict[str, Frame] = {}
            pair: list[Frame] = []
            with closing(reader):
                for number, frame in enumerate(reader, start=1):
                    if frame.key not in frames:
                        frames[frame.key] = frame
                        pair.append(frame)
                    if len(pair) == 2:
                        if method != "cached":  # those may need no encoding, and then no decoding
                            agent.model.prefetch(Frames(tuple(pair)))
                        pair.clear()
                    yield Working(self.elapsed, 0, "frames", number, count)
                    self.check_time()
            agent.frames = tuple(frames.values())
            if method == "keyframe" and len(frames) < count:
                yield self.notice(f"{len(frames)} keyframes instead of {count} frames: there are no others near the times to look at")
            elif method not in ("keyframe", "cached") and settings.sampling == "keyframe":
                yield self.notice("there is no keyframe in the part asked about: its frames are decoded")
        chosen = thin(agent.frames, count)
        yield FramesSampled(self.elapsed, tuple(frame.time for frame in chosen), method)
        return chosen

    def context_prompt(self, frames: Sequence[Frame]) -> Prompt:
        system = self.agent.prompts.render("context_vlm", tools=tool_lines(self.agent.tools))
        return [
            Message("system", (Text(system),)),
            Message("user", (Frames(tuple(frames)), Text(f"{self.question}\n{self.video_info}"))),
        ]

    @property
    def video_info(self) -> str:
        video, span = self.agent.video, self.agent.span
        info = f"Video Path: {self.workspace.video_path} of duration {format_clock(video.duration)}."
        if span == Span(0.0, video.duration):
            return info
        return f"{info} Only the part from {format_clock(span.start)} to {format_clock(span.end)} is asked about."

    # ---- the reasoner ----------------------------------------------------------------------------------------------

    def reasoner_prompt(self, video_context: str, last: bool) -> Steps[Prompt]:
        """The newest results with all that the context holds beside them and the reply."""
        room = self.agent.model.info.context_size - self.agent.reply_tokens
        system = self.agent.prompts.render("iterative_reasoner", tools=tool_lines(self.agent.tools))
        results = self.results.kept()
        newest = results[-1]

        def build(results: Sequence[Result], cut: int | None = None) -> Prompt:
            so_far = "".join(f"{result.key} output: {result.output[:cut]}\n" for result in results)
            if last:
                so_far += "This is the last step: no tool can be called any more. Answer now; if that is impossible, the answer is null.\n"
            message = self.agent.prompts.render(
                "iterative_reasoner_msg",
                previous_tool_call=f"{newest.key} with arguments {newest.arguments}\n",
                visual_context=video_context,
                query=self.question,
                video_info=self.video_info,
                tools_so_far=so_far,
            )
            return [Message("system", (Text(system),)), Message("user", (Text(message),))]

        def fits(prompt: Prompt) -> bool:
            return self.agent.model.count_tokens(prompt) <= room

        count = most(len(results), lambda number: fits(build(results[-number:])))
        if count:
            if count < len(results):
                yield self.notice(f"only the newest {count} of {len(results)} tool results fit the model's context")
            return build(results[-count:])
        length = most(len(newest.output), lambda number: fits(build([newest], number)))
        if not length:
            raise ModelError(f"the question does not fit a context of {self.agent.model.info.context_size} tokens; raise --ctx-size")
        yield self.notice(f"the result of {newest.key} was cut to its first {length} characters to fit the model's context")
        return build([newest], length)

    # ---- asking ----------------------------------------------------------------------------------------------------

    def ask(self, kind: type[R], prompt: Prompt, schema: Schema) -> Steps[R | None]:
        """Ask the model and read its reply; ask once more, less greedily, when it cannot be read. That happens without a schema only."""
        settings = self.agent.settings
        retry = max(settings.temperature, _RETRY_TEMPERATURE)
        for temperature, seed in ((settings.temperature, settings.seed), (retry, settings.seed + 1)):
            yield StepStarted(self.elapsed, self.step)
            self.check_time()
            text = yield from self.stream(prompt, schema, temperature, seed)
            try:
                return read(kind, text)
            except ValueError:
                yield self.notice("the model's reply could not be read")
        return None

    def stream(self, prompt: Prompt, schema: Schema, temperature: float, seed: int) -> Steps[str]:
        fields = FieldStream()
        stream = self.agent.model.stream(
            prompt, schema=schema, wrap=WRAP, max_tokens=self.agent.reply_tokens, temperature=temperature, seed=seed
        )
        for item in stream:
            match item:
                case Progress(stage, done, total):
                    yield Working(self.elapsed, self.step, stage, done, total)
                    self.check_time()
                case Delta(text):
                    for name, piece in fields.feed(text):
                        yield TextDelta(self.elapsed, self.step, name, piece)
                    self.check_time()
                case Reply(text, _, usage):
                    reply = text
                    self.usage += usage
                    yield StepFinished(self.elapsed, self.step, usage)
        return reply

    # ---- acting ----------------------------------------------------------------------------------------------------

    def act(self, wanted: ToolCall | None) -> Iterator[Event]:
        """Run the one call of a step and keep its result for the reasoner."""
        tool = self.tools.get(wanted.name) if wanted else None
        if wanted is None or tool is None:
            if wanted is not None and wanted.name in {WIRE_NAMES[name] for name in _WEB_TOOLS} and not self.agent.told_of_web:
                yield from self.tell_of_web("the model wanted to ask the web")
            elif wanted is not None:
                yield self.notice(f"the model called {wanted.name!r}, which is not one of its tools")
            self.results.add_nothing()
            return
        # Arguments that the tool does not have are ignored, as the reference does.
        given = {name: value for name, value in wanted.arguments.items() if name in tool.arguments.model_fields}
        span: tuple[float, float] | None = None
        outcome: Outcome | str | None = None
        try:
            arguments = tool.arguments.model_validate(given)
            span = tool.span(arguments, self.workspace)
        except ValidationError as error:
            outcome = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False))
        except ToolError as error:
            outcome = str(error)
        where = Span(*span) if span else None
        yield ToolCalled(self.elapsed, self.step, tool.name, given, wanted.rationale, where)
        self.check_time()
        call = Call(wanted.name, given, span)
        earlier = self.results.earlier(call)
        if earlier is not None:
            outcome = earlier
            self.results.add_again(call)
        else:
            outcome = outcome or (yield from self.use(tool, arguments))
            self.results.add(call, outcome)
        if isinstance(outcome, str):
            ok, result, summary, usage = False, {"error": outcome}, outcome, Usage()
        else:
            ok, result, summary, usage = True, outcome.result, outcome.summary, outcome.usage
        if earlier is not None:
            usage = Usage()
        yield ToolFinished(self.elapsed, self.step, tool.name, ok, earlier is not None, result, summary, where, usage)

    def use(self, tool: AnyTool, arguments: Arguments) -> Steps[Outcome | str]:
        """Run a tool to its outcome, or to its error text."""
        run = tool.run(arguments, self.workspace)
        try:
            while True:
                item = next(run)
                if isinstance(item, ToolNotice):
                    yield self.notice(f"{tool.name}: {item.text}")
                elif isinstance(item, Request):
                    if not (yield from self.allowed(tool, item)):
                        run.close()
                        return "the user did not allow this request"
                    yield Working(self.elapsed, self.step, "web", 0, 0)
                # When a model will stop writing is not known: that is no progress, only an occasion to look at the clock.
                elif item.stage != "decode":
                    yield Working(self.elapsed, self.step, item.stage, item.done, item.total)
                self.check_time()
        except StopIteration as stop:
            outcome: Outcome = stop.value
            self.usage += outcome.usage
            self.looked += outcome.looked
            return outcome
        except (ToolError, SageError) as error:
            return str(error)

    def allowed(self, tool: AnyTool, request: Request) -> Steps[bool]:
        """Say what is about to leave the machine, and hear whether it may."""
        event = WebRequested(self.elapsed, self.step, tool.name, request.purpose, request.host, request.text)
        yield event
        asked = self.agent.clock()
        allowed = self.agent.consent is None or self.agent.consent(event)
        self.started += self.agent.clock() - asked  # the time that a person takes is not the run's
        return allowed

    def tell_of_web(self, occasion: str) -> Iterator[Notice]:
        if not self.agent.told_of_web:
            self.agent.told_of_web = True
            yield self.notice(f"{occasion}; --web lets the model search the web and read pages, and shows all that it sends")

    def notice(self, text: str) -> Notice:
        return Notice(self.elapsed, text)
