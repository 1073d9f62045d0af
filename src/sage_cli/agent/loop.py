"""The any-horizon loop: look at the video once, then answer or call a tool, and reason about its result until there is an answer.

A generator of events without I/O of its own: the caller decides what to do with them, and may stop at any time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from sage_cli.agent.asking import Asker, Steps, UnusableReplyError
from sage_cli.agent.conversation import in_conversation, newest
from sage_cli.agent.events import Answer, Budget, Event, FramesSampled, NoAnswer, Notice, RunStarted, Span, StepStarted, WebRequested
from sage_cli.agent.evidence import merged, rested_on
from sage_cli.agent.first_look import FirstLook, choose
from sage_cli.agent.nonsense import gives_up, without_repetition
from sage_cli.agent.prompt_builder import PromptBuilder
from sage_cli.agent.protocol import WIRE_NAMES, ContextReply, ReasonerReply, as_reply, context_schema, reasoner_schema
from sage_cli.agent.results import Results
from sage_cli.agent.stopwatch import OutOfTimeError, Stopwatch
from sage_cli.agent.structured import AnswerSchema
from sage_cli.agent.tool_runner import ToolRunner
from sage_cli.errors import ModelError
from sage_cli.model.base import ChatModel, Prompt, Usage
from sage_cli.prompts import Prompts
from sage_cli.speech.subtitles import Subtitles
from sage_cli.text import without_surrogates
from sage_cli.tools import TOOLS, WEB_TOOLS, TranscribeSpeech
from sage_cli.tools.base import AnyTool, EvidenceSpan
from sage_cli.tools.sizes import FrameSize
from sage_cli.tools.workspace import SpeechModel, Workspace
from sage_cli.video import Frame, Sampling, Video
from sage_cli.web.base import addresses_in

_WEB_HINT: Final = "--web lets the model search the web and read pages, and shows all that it sends"


@dataclass(frozen=True, slots=True)
class Settings:
    """The requested limits of a run; the defaults are those of the reference implementation.

    Attributes:
        frames: maximum frames that the model sees at once, in the first look and in tools; analyze also shows frames that were extracted.
        frame_size: their size: as in the released configuration, or as in the paper.
        frame_tokens: maximum vision tokens per frame pair; ``None``: set by ``frame_size``.
        sampling: whether the first look uses the frames at its times, or the nearest keyframes; see :meth:`Video.frames`.
        max_steps: maximum calls of the reasoner; with 0, every answer comes from the first look.
        timeout_s: time limit per question in seconds; ``None`` for no limit.
        reply_tokens: maximum tokens of a reply; lower with a small context.
        temperature, seed: of the sampler.
        schema: of the answers; ``None`` for answers in words.
        direct_prompt: without tools, use the paper's prompt for its direct baseline: think in plain text, then answer.
        prompts: of the model's family, or the user's.
    """

    frames: int = 128
    frame_size: FrameSize = "reference"
    frame_tokens: int | None = None
    sampling: Sampling = "exact"
    max_steps: int = 10
    timeout_s: float | None = None
    reply_tokens: int = 2048
    temperature: float = 0.0
    seed: int = 0
    schema: AnswerSchema | None = None
    direct_prompt: bool = False
    prompts: Prompts = field(default_factory=Prompts)


class Agent:
    """Answers questions about one video. Decoded frames and the loaded speech model are reused for further questions.

    Args:
        model: used at every step, and by tools that need a model.
        video: the subject of the questions.
        tools: the enabled tools, of which those that look need a picture; without any, every answer comes from the first look.
        settings: limits.
        span: the part of the video to ask about, in seconds; the whole video by default.
        transcriber: loads the speech model; called once, when speech is first needed. ``None``: speech cannot be transcribed.
        subtitles: the video's own; they serve as its transcript before any speech model.
        consent: asked after the event that announces a web request and before it is sent. ``None``: always allowed.
        clock: seconds from any fixed point; only differences matter.
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
        subtitles: Subtitles | None = None,
        consent: Callable[[WebRequested], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.video = video
        self.settings = settings or Settings()
        self.tools = tuple(tool for tool in tools if video.has_video or not tool.looks) if self.settings.max_steps > 0 else ()
        self.span = Span(*(span or (0.0, video.duration)))
        self.prompts = self.settings.prompts
        self.transcriber = cache(transcriber) if transcriber else None
        self.subtitles = subtitles
        self.consent = consent
        self.clock = clock
        # Mentioned once, when the web could have helped: users with private videos need no reminders.
        self._web_mentioned = not self.tools or any(tool.name in WEB_TOOLS for tool in self.tools)
        self.first_look = FirstLook(model, self.settings.sampling)

    @property
    def reply_tokens(self) -> int:
        """Maximum tokens of a reply: at least three quarters of the context are for the prompt."""
        return min(self.settings.reply_tokens, self.model.info.context_size // 4)

    def run(self, question: str, earlier: Sequence[tuple[str, str]] = ()) -> Generator[Event]:
        """Answer a question. The last event is an :class:`Answer` or a :class:`NoAnswer`.

        Args:
            earlier: questions and answers of the conversation before it; the model sees as many of the newest as fit.

        Raises:
            SageError: the model or the video failed, nothing is shown or said in it, or the context is too small for the question and a
                single frame.
        """
        return _Run(self, question, earlier).events()

    def workspace(self, question: str = "", earlier: Iterable[str] = ()) -> Workspace:
        """The workspace of a run; without a question, for a tool that is called alone.

        Args:
            question: its addresses may be opened, and long transcripts are searched for its words.
            earlier: questions before it, which say what its pronouns stand for.
        """
        return Workspace(
            self.model,
            self.video,
            span=(self.span.start, self.span.end),
            prompts=self.prompts,
            transcriber=self.transcriber,
            subtitles=self.subtitles,
            frames=self.settings.frames,
            frame_tokens=self.settings.frame_tokens,
            frame_size=self.settings.frame_size,
            addresses=addresses_in(question),
            asked=" ".join([question, *earlier]),
        )

    def web_hint(self, elapsed: float, occasion: str) -> Notice | None:
        """A hint for a user whom the web could have helped; ``None`` the second time."""
        if self._web_mentioned:
            return None
        self._web_mentioned = True
        return Notice(elapsed, occasion, _WEB_HINT, general=True)


class _Run:
    """The run of one question."""

    def __init__(self, agent: Agent, question: str, earlier: Sequence[tuple[str, str]]) -> None:
        settings = agent.settings
        self._agent, self._question = agent, (question := without_surrogates(question))
        self._watch = Stopwatch(agent.clock, settings.timeout_s)
        self._results = Results()
        self._told = {notice.text for notice in agent.video.notices} if earlier else set[str]()  # a conversation says it once
        self._workspace = agent.workspace(question, [asked for asked, _ in earlier[-1:]])
        room = agent.model.info.context_size - agent.reply_tokens
        self._left_out = (turns := newest(earlier, room)) != [*earlier]
        self._prompts = PromptBuilder(in_conversation(question, turns), self._workspace, agent.tools, room)
        sampling = agent.reply_tokens, settings.temperature, settings.seed, agent.prompts.style.answer_characters
        self._asker = Asker(agent.model, self._watch, agent.prompts.instructions, *sampling)
        self._runner = ToolRunner(agent.tools, self._workspace, self._results, self._watch, agent.consent, agent.web_hint)

    def events(self) -> Generator[Event]:
        for event in self._with_damage():
            if isinstance(event, Notice) and event.media:
                if event.text in self._told:
                    continue
                self._told.add(event.text)
            yield event

    def _ended(self) -> Iterator[Event]:
        """The steps, with an end in any case."""
        step = 0
        try:
            for event in self._steps():
                step = event.step if isinstance(event, StepStarted) else step
                yield event
        except OutOfTimeError:
            yield self._no_answer(step, f"the time limit of {self._watch.limit_s:g} s (--timeout) was reached")
        except UnusableReplyError as error:
            yield self._no_answer(step, str(error))

    def _with_damage(self) -> Iterator[Event]:
        """The steps, with what of the video cannot be decoded: more is found while it is read."""
        for event in self._ended():
            if isinstance(event, (FramesSampled, Answer, NoAnswer)):
                for notice in self._agent.video.notices:
                    yield Notice(self._watch.elapsed, notice.text, media=True)
            yield event

    def _steps(self) -> Iterator[Event]:
        agent, prompts = self._agent, self._prompts
        direct = agent.settings.direct_prompt and not agent.tools
        build = prompts.direct if direct else prompts.first
        choice = choose(self._workspace, build, prompts.room)
        tools = tuple(tool.name for tool in agent.tools)
        context = agent.model.info.context_size
        steps = agent.settings.max_steps if tools else 0
        budget = Budget(choice.count, *choice.size, context, steps, agent.settings.timeout_s, tools)
        video = agent.video
        yield RunStarted(self._watch.elapsed, self._question, video.name, video.duration, agent.span, agent.model.info, budget)
        if agent.model.info.host:
            sent = "frames and prompts" if choice.times else "prompts"
            yield Notice(self._watch.elapsed, f"{sent} are sent to {agent.model.info.host}", general=True)
        if self._left_out:
            text = "the conversation is long: the model is given its newest questions and answers"
            yield Notice(self._watch.elapsed, text, "raise --ctx-size to give it more", general=True)
        if choice.count == 0 and not prompts.fits(build(())):
            raise prompts.too_long()
        if choice.times and choice.count == 0:
            raise ModelError(
                f"the question and one frame do not fit a context of {context} tokens; raise --ctx-size or lower --frame-tokens"
            )
        frames = yield from agent.first_look.frames(self._workspace, choice, build, self._watch)
        prompt = build(frames)
        if direct:
            yield from self._direct(prompt, frames)
            return
        if frames and any(tool.name == TranscribeSpeech.name for tool in agent.tools):
            yield from agent.first_look.listen(self._workspace, self._watch)
        reply = yield from self._look(prompt, shown=bool(frames))
        if agent.tools and reply.recommended_tools.call:
            yield from self._runner.act(0, reply.recommended_tools)
            yield from self._reason(without_repetition(reply.video_context))  # what loops in a prompt makes models loop
        elif reply.final_answer:
            yield from self._answer(0, prompt, as_reply(reply), reply.final_answer, _sampled(frames))
        else:
            yield from self._suggest_web()
            yield self._no_answer(0, "the model gave none")

    def _look(self, prompt: Prompt, *, shown: bool) -> Steps[ContextReply]:
        """The reply of the first look. If it says that the frames do not answer the question, an untrained model is made to call a tool;
        where no frame was shown, every model is, because an answer would be a guess."""
        tools, style = self._agent.tools, self._agent.prompts.style
        reply = yield from self._asker.ask(ContextReply, 0, prompt, context_schema(tools, self._workspace, must_call=not shown))
        if tools and style.second_look and reply.final_answer and not (shown and (yield from self._found(0, reply))):
            yield Notice(self._watch.elapsed, "the first look gave no answer: the model is asked to call a tool")
            schema = context_schema(tools, self._workspace, must_call=True)
            again = self._prompts.again(prompt, as_reply(reply))
            reply = yield from self._asker.ask(ContextReply, 0, again, schema)
        return reply

    def _direct(self, prompt: Prompt, frames: Sequence[Frame]) -> Iterator[Event]:
        answer = yield from self._asker.ask_directly(prompt)
        if answer is None:
            yield self._no_answer(0, "the model gave none")
        else:
            yield from self._answer(0, prompt, answer, answer, _sampled(frames))

    def _reason(self, video_context: str) -> Iterator[Event]:
        steps, guess = self._agent.settings.max_steps, ""
        for step in range(1, steps + 1):
            last = step == steps
            prompt = yield from self._prompts.later(self._results, video_context, self._watch, last=last)
            schema = reasoner_schema(self._agent.tools, self._workspace, last=last)
            reply = yield from self._asker.ask(ReasonerReply, step, prompt, schema)
            if reply.answerable.verdict and reply.final_answer:
                if (yield from self._confirmed(step, reply, video_context)):
                    evidence = self._results.evidence
                    yield from self._answer(step, prompt, as_reply(reply), reply.final_answer, evidence, denied=reply.found is False)
                    return
                doubted, guess = bool(guess), reply.final_answer
                if doubted:
                    break
                self._results.add_check(self._agent.prompts.render("unconfirmed", answer=guess))
                if not last:
                    yield Notice(self._watch.elapsed, "the model does not find its answer in the video: it goes on")
            elif not last:
                yield from self._runner.act(step, None if reply.answerable.verdict else reply.recommended_tools)
        yield from self._suggest_web()
        text = f"the video does not hold it, as far as the model can tell; its guess: {guess}" if guess else ""
        yield self._no_answer(step, text or f"none was found in {steps} step{'s'[: steps > 1]}")

    def _confirmed(self, step: int, reply: ReasonerReply, video_context: str) -> Steps[bool]:
        """Whether transcripts, or what the frames show, hold what a reply found after transcripts alone. An untrained model that writes an
        answer finds a sentence for it, whatever was asked; when asked for yes or no, it knows better."""
        heard = self._results.only_of(WIRE_NAMES[TranscribeSpeech.name])
        if not self._agent.prompts.style.confirm or heard is None or not (yield from self._found(step, reply)):
            return True
        prompt = self._prompts.confirm(video_context, heard)
        return prompt is None or (yield from self._asker.ask_yes_or_no(step, prompt))

    def _found(self, step: int, reply: ContextReply | ReasonerReply) -> Steps[bool]:
        """Whether an answer gives what was asked, rather than saying that the video does not hold it. A model that did not tell, as on a
        server without schemas, is asked."""
        if reply.found is not None or reply.final_answer is None:
            return bool(reply.found)
        prompt = self._prompts.found(reply.final_answer)
        return prompt is None or (yield from self._asker.ask_yes_or_no(step, prompt, "found", "missing"))

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _answer(
        self, step: int, prompt: Prompt, said: str, text: str, evidence: Sequence[EvidenceSpan], *, denied: bool = False
    ) -> Iterator[Event]:
        """The answer, in the shape of the user's schema if there is one; no answer if the text stands for none.

        Args:
            prompt, said: of the reply that holds the answer.
            denied: the answer says that the video does not hold what was asked, which no sentence of it says.
        """
        if gives_up(text):
            yield self._no_answer(step, "the model could not produce one")
            return
        rests = merged(evidence) if denied else rested_on(evidence, self._workspace.searched or self._question, text)
        shape, value = self._agent.settings.schema, None
        if shape is not None:
            value = yield from self._asker.ask_in_shape(step, self._prompts.in_shape(prompt, said, text, shape), shape)
            text = json.dumps(value, ensure_ascii=False)
        yield Answer(self._watch.elapsed, self._question, text, step, rests, self._usage, value)

    def _no_answer(self, step: int, reason: str) -> NoAnswer:
        return NoAnswer(self._watch.elapsed, self._question, reason, step, merged(self._results.evidence), self._usage)

    def _suggest_web(self) -> Iterator[Event]:
        if hint := self._agent.web_hint(self._watch.elapsed, "the video alone gave no answer"):
            yield hint

    @property
    def _usage(self) -> Usage:
        return self._asker.usage + self._workspace.usage


def _sampled(frames: Sequence[Frame]) -> list[EvidenceSpan]:
    return [EvidenceSpan(frames[0].time, frames[-1].time, "frames sampled")] if frames else []
