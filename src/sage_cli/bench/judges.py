"""Judges decide whether an answer is correct: by its words, by the option it names, or by a model's verdict."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from sage_cli.bench.items import Item
from sage_cli.bench.options import letter, named, words
from sage_cli.errors import SageError, UsageError
from sage_cli.model.base import ChatModel, Message, Reply, Text
from sage_cli.tools.reply import json_object
from sage_cli.tools.schema import record, text

Kind: TypeAlias = Literal["exact", "choice", "model", "server"]

TOLERANCE: Final = 2.0  # tolerance of clock times, in seconds

_PLAIN: Final[tuple[Kind, ...]] = ("exact", "choice", "model")
_CLOCK: Final = re.compile(r"\b(?:(\d{1,2}):)?(\d{1,2}):(\d{2})\b")
_DENIED: Final = re.compile(r"\b(?:not|no|never)\b|n['\u2019]t\b", re.IGNORECASE)

_REASON: Final = 1000  # characters
_REPLY_TOKENS: Final = 512
_ATTEMPTS: Final = 5
_PASSING: Final = frozenset((408, 429, 500, 502, 503, 504))

_TASK: Final = """\
Decide whether a predicted answer to a question about a video means the same as the reference answer. Wording does not matter, nor do
details that only one of them gives and the other does not contradict. A prediction of another fact, or of none, does not match.

Question: {question}

Prediction: {prediction}
Reference: {reference}

{form}
"""
_AS_TEXT: Final = "Reply in this form:\nReasoning: <why>\nVerdict: <True or False>"
_AS_JSON: Final = 'Reply with JSON: {"reasoning": <why, in a sentence or two>, "verdict": <true or false>}'
_SCHEMA: Final = record(reasoning=text(_REASON), verdict={"type": "boolean"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict; ``correct`` is ``None`` if the judge could not decide, and ``reasoning`` says why."""

    correct: bool | None
    reasoning: str


class Judge(Protocol):
    """Judges the answer to an item."""

    def __call__(self, item: Item, answer: str) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """A choice of judge.

    Attributes:
        kind: of judge.
        address: of a server, including ``/v1``.
        model: its name on the server.
    """

    kind: Kind
    address: str = ""
    model: str = ""

    @classmethod
    def parse(cls, text: str, model: str | None = None) -> JudgeChoice:
        """Parse ``--judge`` and ``--judge-model``.

        Raises:
            UsageError: unknown judge.
        """
        if re.match(r"https?://[^/\s]+", text):
            return cls("server", text.rstrip("/").removesuffix("/chat/completions"), model or "default")
        for kind in _PLAIN:
            if text == kind:
                return cls(kind)
        raise UsageError(f"--judge {text}: use exact, choice, model, or the address of an OpenAI-compatible server, http://HOST/v1")

    def __str__(self) -> str:
        return f"{self.model} at {self.address}" if self.kind == "server" else self.kind


# ---- by words ------------------------------------------------------------------------------------------------------


def exact(item: Item, answer: str) -> Verdict:
    """Word for word, but for case, punctuation and spacing; numbers in words or digits; clock times off by up to :data:`TOLERANCE`.

    A reference that is a single number is also matched by an answer whose only number it is: "The number is seven."
    """
    if not _times(answer, item.reference):
        return Verdict(False, "other times")
    said, right = words(_CLOCK.sub("time", answer)), words(_CLOCK.sub("time", item.reference))
    if said == right:
        return Verdict(True, "the same words")
    if right.isdecimal() and not _DENIED.search(answer):
        numbers = [word for word in said.split() if word.isdecimal()]
        if numbers == [right]:
            return Verdict(True, "the same number")
    return Verdict(False, "other words")


def choice(item: Item, answer: str) -> Verdict:
    """The option that the answer names, by its label or by its words. Questions without options are judged by :func:`exact`."""
    if item.open:
        return exact(item, answer)
    place = named(answer, item.options, numbered=item.numbered)
    if place is None:
        return Verdict(False, "names none of the options, or several")
    return Verdict(letter(place) == item.letter, f"names option {letter(place)}; {item.letter} is right")


def _times(one: str, other: str) -> bool:
    pairs = zip(_CLOCK.findall(one), _CLOCK.findall(other), strict=False)
    return all(abs(_seconds(first) - _seconds(second)) <= TOLERANCE for first, second in pairs)


def _seconds(fields: tuple[str, str, str]) -> int:
    return 3600 * int(fields[0] or 0) + 60 * int(fields[1]) + int(fields[2])


# ---- by a model ----------------------------------------------------------------------------------------------------


def task(item: Item, answer: str, form: str) -> str:
    """The prompt of a judging model, in the reference's form: question, prediction, reference, then reasoning and verdict."""
    reference = f"option: {item.letter}; text: {item.reference}" if item.letter else item.reference
    return _TASK.format(question=item.question, prediction=answer, reference=reference, form=form)


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """A local model; a schema forces a verdict."""

    model: ChatModel

    def __call__(self, item: Item, answer: str) -> Verdict:
        prompt = [Message("user", (Text(task(item, answer, _AS_JSON)),))]
        try:
            for part in self.model.stream(prompt, schema=_SCHEMA, max_tokens=_REPLY_TOKENS):
                if isinstance(part, Reply):
                    said = json_object(part.text)
            return Verdict(bool(said["verdict"]), str(said["reasoning"]))
        except (SageError, ValueError, KeyError) as error:
            return Verdict(None, f"no verdict: {error}")


class ServerJudge:
    """A model on an OpenAI-compatible server (``POST /chat/completions``).

    Args:
        choice: its address and name.
        key: sent as a bearer token; empty for none.
        wait: sleeps that many seconds between attempts.
    """

    def __init__(self, choice: JudgeChoice, key: str = "", wait: Callable[[float], object] = time.sleep) -> None:
        import httpx2

        self._choice, self._wait = choice, wait
        self._client = httpx2.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=120, trust_env=False)

    def __call__(self, item: Item, answer: str) -> Verdict:
        prompt = task(item, answer, _AS_TEXT)
        body = {"model": self._choice.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0}
        try:
            return read_verdict(self._ask(body))
        except (SageError, ValueError) as error:
            return Verdict(None, f"no verdict: {error}")

    def _ask(self, body: dict[str, Any]) -> str:
        """The reply; temporary failures are retried, with a doubled delay each time."""
        import httpx2

        problem = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._wait(2.0 ** (attempt - 1))
            try:
                response = self._client.post(f"{self._choice.address}/chat/completions", json=body)
            except httpx2.HTTPError as error:
                problem = f"{self._choice.address} cannot be reached ({type(error).__name__})"
                continue
            if response.status_code == 200:
                try:
                    return str(response.json()["choices"][0]["message"]["content"])
                except (ValueError, LookupError, TypeError) as error:
                    raise SageError(f"{self._choice.address} did not answer as an OpenAI-compatible server does") from error
            problem = f"{self._choice.address} answered with status {response.status_code}"
            if response.status_code not in _PASSING:
                break
        raise SageError(problem)


def read_verdict(reply: str) -> Verdict:
    """Parse ``Reasoning: ... Verdict: True`` inside any other text. The last verdict counts.

    Raises:
        ValueError: there is no verdict.
    """
    verdicts = re.findall(r"verdict\W*(true|false)\b", reply, re.IGNORECASE)
    if not verdicts:
        raise ValueError("the reply has no verdict")
    reasoning = re.search(r"reasoning\W*?:\W*(.*?)[\s*_#]*(?=verdict\W*(?:true|false)\b|$)", reply, re.IGNORECASE | re.DOTALL)
    return Verdict(verdicts[-1].lower() == "true", " ".join((reasoning[1] if reasoning else "").split()))
