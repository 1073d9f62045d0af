"""One request to the model: streams the reply as events, parses it, and asks again if it is unusable."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, TypeVar

from sage_cli.agent.events import Event, Notice, StepFinished, StepStarted, TextDelta, Working
from sage_cli.agent.nonsense import is_nonsense, without_loops, without_repetition
from sage_cli.agent.protocol import ContextReply, ReasonerReply
from sage_cli.agent.reading import FieldStream, as_answer, prose, read
from sage_cli.agent.stopwatch import Stopwatch
from sage_cli.agent.structured import AnswerSchema
from sage_cli.model.base import ChatModel, Delta, Finish, Progress, Prompt, Reply, Usage
from sage_cli.tools.reply import WRAP, json_object, without_thinking
from sage_cli.tools.schema import Schema, one_of, record

R = TypeVar("R", ContextReply, ReasonerReply)
T = TypeVar("T")
Steps: TypeAlias = Generator[Event, None, T]

_RETRY_TEMPERATURE: Final = 0.7
_BRACKETS: Final = re.compile(r"[\]}\s]*")  # the end of a reply that adds no value to it
_ANSWER: Final = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)


def attempts(temperature: float, seed: int) -> tuple[tuple[float, int], ...]:
    """Temperature and seed of the first and the second attempt at a reply."""
    return (temperature, seed), (max(temperature, _RETRY_TEMPERATURE), seed + 1)


class UnusableReplyError(Exception):
    """The model's reply was unusable twice in a row. The message says why."""


@dataclass
class Asker:
    """Asks the model for the replies of a run.

    Attributes:
        model: answers the requests.
        watch: the run's clock and time limit.
        instructions: all prompt texts, to recognize an answer that only repeats them.
        reply_tokens, temperature, seed: limits and sampling of the replies.
        answer_characters: the limit of an answer in the schemas of replies; ``None`` if they have none.
        usage: sum over all replies so far.
    """

    model: ChatModel
    watch: Stopwatch
    instructions: str
    reply_tokens: int
    temperature: float
    seed: int
    answer_characters: int | None = None
    usage: Usage = field(default_factory=Usage)

    def ask(self, kind: type[R], step: int, prompt: Prompt, schema: Schema) -> Steps[R]:
        """Ask and parse the reply. Ask once more at a higher temperature if it cannot be parsed or says nothing (only without a schema), if
        it was stopped before it held an answer or a whole call, or if its answer is nonsense. Plain text at last is the answer: so reply
        models that know no JSON.

        Raises:
            UnusableReplyError: both replies were unusable.
        """
        said = ""
        for last, (temperature, seed) in zip((False, True), attempts(self.temperature, self.seed), strict=True):
            given = yield from self._stream(step, prompt, temperature, seed, schema, WRAP)
            try:
                reply = read(kind, given.said)
                if given.finish == "loop" and (call := reply.recommended_tools.call):
                    call.arguments = without_loops(call.arguments)
            except ValueError:
                problem = "the model's reply could not be read"
                said = prose(given.said) or said
                if not (last and said):
                    yield Notice(self.watch.elapsed, problem)
                    continue
                yield Notice(self.watch.elapsed, "the model does not reply in JSON: its words are taken for its answer")
                reply = as_answer(kind, said)
            if reply.final_answer is None and given.closing:
                problem = "the model's reply was stopped before it held an answer or a whole tool call"
            elif reply.final_answer is None:
                if last or kind is not ContextReply or reply.recommended_tools.call:
                    return reply
                problem = "the model gave neither an answer nor a tool call"
            else:
                answer = without_repetition(reply.final_answer)
                if not is_nonsense(answer, self.instructions):
                    yield from self._cut(reply.final_answer, answer, given.finish)
                    return reply.model_copy(update={"final_answer": answer})
                problem = "the model's answer made no sense"
            yield Notice(self.watch.elapsed, problem)
        raise UnusableReplyError(problem)

    def _cut(self, given: str, answer: str, finish: Finish) -> Iterator[Notice]:
        """A notice if something may be missing from the answer, and the notice of its reply did not say so."""
        if answer != given:
            if finish != "loop":
                yield Notice(self.watch.elapsed, "the end of the model's answer repeated itself and was cut")
        elif self.answer_characters and self.answer_characters - 1 <= len(answer) <= self.answer_characters:  # the last may be a blank
            yield Notice(self.watch.elapsed, f"the model's answer was cut off at {self.answer_characters} characters")

    def ask_directly(self, prompt: Prompt) -> Steps[str | None]:
        """Ask in plain text. The answer is the text between ``<answer>`` tags, or else all that follows the thinking."""
        reply = yield from self._stream(0, prompt, self.temperature, self.seed)
        text = without_thinking(reply.text)
        given = (marked[-1] if (marked := _ANSWER.findall(text)) else text).strip()
        answer = without_repetition(given)
        if is_nonsense(answer, ""):
            return None
        yield from self._cut(given, answer, reply.finish)
        return answer

    def ask_yes_or_no(self, step: int, prompt: Prompt, yes: str = "yes", no: str = "no") -> Steps[bool]:
        """Ask for one of two words. What is neither or both, as served models may write, counts as yes."""
        reply = yield from self._stream(step, prompt, 0.0, self.seed, record(answer=one_of((yes, no))))
        text = without_thinking(reply.text)
        with suppress(ValueError):
            text = str(json_object(text, ("answer",)).get("answer"))
        return {word for word in (yes, no) if re.search(rf"\b{word}\b", text.casefold())} != {no}

    def ask_in_shape(self, step: int, prompt: Prompt, shape: AnswerSchema) -> Steps[Any]:
        """Ask for a JSON value of the user's schema; once more at a higher temperature if the reply does not obey it, as replies of served
        models may not, or if it was stopped before its last value.

        Raises:
            UnusableReplyError: both replies did not.
        """
        for temperature, seed in attempts(self.temperature, self.seed):
            reply = yield from self._stream(step, prompt, temperature, seed, shape.schema)
            if _BRACKETS.fullmatch(reply.closing):
                try:
                    return shape.read(without_thinking(reply.text), looped=reply.finish == "loop")
                except (ValueError, RecursionError) as error:
                    problem = f"the model's answer does not obey the schema ({error})"
            else:
                problem = "the model's answer was stopped before it held all that the schema asks for"
            yield Notice(self.watch.elapsed, problem)
        raise UnusableReplyError(problem)

    def _stream(
        self, step: int, prompt: Prompt, temperature: float, seed: int, schema: Schema | None = None, wrap: tuple[str, str] = ("", "")
    ) -> Steps[Reply]:
        """A reply. Only replies of the protocol, which are wrapped, have fields to show."""
        yield StepStarted(self.watch.elapsed, step)
        self.watch.check()
        fields = FieldStream() if wrap == WRAP else None
        items = self.model.stream(prompt, schema=schema, wrap=wrap, max_tokens=self.reply_tokens, temperature=temperature, seed=seed)
        with closing(items) as stream:
            for item in stream:
                match item:
                    case Progress(stage, done, total):
                        yield Working(self.watch.elapsed, step, stage, done, total)
                        self.watch.check()
                    case Delta(text):
                        for name, piece in fields.feed(text) if fields else ():
                            yield TextDelta(self.watch.elapsed, step, name, piece)
                        self.watch.check()
                    case Reply(_, finish, usage, advice):
                        reply = item
                        self.usage += usage
                        if finish == "length" and not advice and self.reply_tokens == self.model.info.context_size // 4:
                            item = replace(item, advice="raise --ctx-size")  # see Agent.reply_tokens
                        if item.notice:
                            yield Notice(self.watch.elapsed, item.notice, item.advice)
                        yield StepFinished(self.watch.elapsed, step, usage)
        return reply
