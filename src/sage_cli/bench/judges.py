"""Judges decide whether an answer is correct: by its words, by the option it names, or by the verdict of a model, local or served."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from string import whitespace
from typing import Final, Literal, TypeAlias

from sage_cli.bench.items import Item
from sage_cli.bench.naming import named
from sage_cli.bench.options import letter
from sage_cli.bench.words import amounts, words
from sage_cli.errors import SageError, UsageError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.base import ChatModel, Message, Reply, Text
from sage_cli.timecode import without_clocks
from sage_cli.tools.reply import json_object
from sage_cli.tools.schema import record, text

Kind: TypeAlias = Literal["exact", "choice", "model", "server"]

TOLERANCE: Final = 2.0  # tolerance of clock times, in seconds

_PLAIN: Final[tuple[Kind, ...]] = ("exact", "choice", "model")
# "It is not 7" and "more than 7" are other answers than 7.
_DENIED: Final = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|without|except|\w+ than|at (?:least|most))\b|n['\u2019]t\b", re.IGNORECASE
)
_DENYING: Final = re.compile(r"\b(?:not|never|except|incorrect|wrong|false|untrue)\b|n['\u2019]t\b", re.IGNORECASE)

_REASON: Final = 1000  # characters
_REPLY_TOKENS: Final = 1024

_TASK: Final = """\
Decide whether a predicted answer to a question about a video means the same as the reference answer. Wording does not matter, nor do
details that only one of them gives and the other does not contradict. A prediction of another fact, or of none, does not match.

Question: {question}

Prediction: {prediction}
Reference: {reference}

Reply with JSON: {{"reasoning": <why, in a sentence or two>, "verdict": <true or false>}}
"""
_SCHEMA: Final = record(reasoning=text(_REASON), verdict={"type": "boolean"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict; ``correct`` is ``None`` if the judge could not decide, and ``reasoning`` says why."""

    correct: bool | None
    reasoning: str


Judge: TypeAlias = Callable[[Item, str], Verdict]


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """A choice of judge.

    Attributes:
        kind: of judge.
        address: of a ``"server"``.
    """

    kind: Kind
    address: RemoteAddress | None = None

    @classmethod
    def parse(cls, text: str, model: str | None = None) -> JudgeChoice:
        """Parse ``--judge`` and ``--judge-model``.

        Raises:
            UsageError: unknown judge.
        """
        if address := RemoteAddress.parse(text):
            return cls("server", replace(address, name=model) if model else address)
        for kind in _PLAIN:
            if text == kind and model:
                raise UsageError(f"--judge-model names a model of a server: give its address with --judge, or leave it out for {kind}")
            if text == kind:
                return cls(kind)
        raise UsageError(f"--judge {text}: use exact, choice, model, or the address of an OpenAI-compatible server, http://HOST/v1")

    def __str__(self) -> str:
        if self.address is None:
            return self.kind
        return f"{self.address.name} at {self.address.shown}" if self.address.name else self.address.shown


# ---- by words ------------------------------------------------------------------------------------------------------


def exact(item: Item, answer: str) -> Verdict:
    """The same words, ignoring case, punctuation and spacing; numbers in words or digits; clock times within :data:`TOLERANCE`.

    A reference that is a single number is also matched by an answer whose only number it is: "The number is seven."
    """
    (told, times), (reference, meant) = without_clocks(answer), without_clocks(item.reference)
    if any(abs(time - other) > TOLERANCE for time, other in zip(times, meant, strict=False)):
        return Verdict(False, "other times")
    said, right = words(told), words(reference)
    if said == right:
        return Verdict(True, "the same words")
    if amounts(item.reference) == [right] == amounts(answer) and not _DENIED.search(answer):
        return Verdict(True, "the same number")
    return Verdict(False, "other words")


def choice(item: Item, answer: str) -> Verdict:
    """The option that the answer names, by its label or by its words. Questions without options are judged by :func:`exact`."""
    if item.open:
        return exact(item, answer)
    asked = item.question.partition(item.options[0] or "\n")[0]
    place = named(answer, item.options, numbered=item.numbered, denying=_DENYING.search(asked) is not None)
    if place is None:
        return Verdict(False, "names none of the options, or several, or denies them")
    return Verdict(letter(place) == item.letter, f"names option {letter(place)}; {item.letter} is right")


# ---- by a model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """A model gives the verdict. A schema forces local models to give one, and served models if the server enforces schemas."""

    model: ChatModel

    def __call__(self, item: Item, answer: str) -> Verdict:
        prompt = [Message("user", (Text(task(item, answer)),))]
        try:
            for part in self.model.stream(prompt, schema=_SCHEMA, max_tokens=_REPLY_TOKENS):
                if isinstance(part, Reply):
                    if part.finish == "length" or part.closing:  # a verdict after it is forced by the schema, and nobody's
                        return Verdict(None, "no verdict: the judge's reply did not come to an end")
                    return read_verdict(part.text)
        except (SageError, ValueError) as error:
            return Verdict(None, f"no verdict: {error}")
        raise AssertionError("a stream ends with a reply")


def task(item: Item, answer: str) -> str:
    """The prompt of a judging model, after the reference's: question, prediction, reference, then reasoning and verdict."""
    reference = f"option: {item.letter}; text: {item.reference}" if item.letter else item.reference
    return _TASK.format(question=item.question, prediction=answer, reference=reference)


def read_verdict(reply: str) -> Verdict:
    """Parse a verdict: JSON, or ``Reasoning: ... Verdict: True`` inside any other text, of which the last verdict counts.

    Raises:
        ValueError: there is no verdict.
    """
    try:
        said = json_object(reply, ("verdict",))
        if isinstance(said.get("verdict"), bool):
            return Verdict(said["verdict"], str(said.get("reasoning", "")))
    except ValueError:
        pass
    verdicts = re.findall(r"verdict\W*(true|false)\b", reply, re.IGNORECASE)
    if not verdicts:
        raise ValueError("the reply has no verdict")
    reasoning = re.search(r"reasoning\W*?:\W*(.*?)(?=verdict\W*(?:true|false)\b|$)", reply, re.IGNORECASE | re.DOTALL)
    return Verdict(verdicts[-1].lower() == "true", " ".join((reasoning[1].rstrip(f"*_#{whitespace}") if reasoning else "").split()))
