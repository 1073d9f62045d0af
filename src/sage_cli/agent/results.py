"""The tool calls of a run and their results, as given to the reasoner."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sage_cli.tools.base import EvidenceSpan, Outcome

# At most this many results are shown, the newest ones.
KEPT: Final = 10

_NOTHING: Final = "None"  # takes the tool's place in the key of a step without a call
_CHECK: Final = "check"  # the key of what a check of an answer came to


@dataclass(frozen=True, slots=True)
class Result:
    """One call.

    Attributes:
        key: ``{wire name}_#{n}``, where n counts the calls of that tool. Without a call it is ``None_#{n}`` or ``None``; see
            :meth:`Results.add_nothing`.
        arguments: as the model gave them.
        output: the text that the model is given.
    """

    key: str
    arguments: Mapping[str, Any]
    output: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call, comparable with later ones.

    Attributes:
        name: wire name of the tool.
        arguments: as the model gave them.
        span: the time span that they mean, in seconds: ``00:45`` and ``00:00:45`` are the same.
    """

    name: str
    arguments: Mapping[str, Any]
    span: tuple[float, float] | None

    @property
    def identity(self) -> str:
        rest = {name: value for name, value in self.arguments.items() if not name.startswith("timestamp_")}
        return json.dumps([self.name, self.span, rest], sort_keys=True)


class Results:
    """All results of a run, in order."""

    def __init__(self) -> None:
        self._results: list[Result] = []
        self._numbers: Counter[str] = Counter()
        self._earlier: dict[str, tuple[Result, Outcome]] = {}  # calls that succeeded, by identity

    def kept(self) -> Sequence[Result]:
        """The results shown to the model: the newest ones, oldest first."""
        return self._results[-KEPT:]

    def earlier(self, call: Call) -> Outcome | None:
        """The result of an identical earlier call that succeeded, if any."""
        return self._earlier[call.identity][1] if call.identity in self._earlier else None

    def add(self, call: Call, outcome: Outcome | str) -> None:
        """Keep the outcome of a call, or its error text. A failed call runs again when it is repeated: the cause may be gone."""
        key = self._key(call.name)
        # The reference's wording, line break included: the weights have seen it.
        output = str(outcome) if isinstance(outcome, Outcome) else f"Error executing {key}: {outcome}\n for argument {call.arguments}"
        result = Result(key, call.arguments, output)
        self._results.append(result)
        if isinstance(outcome, Outcome):
            self._earlier[call.identity] = result, outcome

    @property
    def evidence(self) -> list[EvidenceSpan]:
        """All time spans that were examined."""
        return [item for _, outcome in self._earlier.values() for item in outcome.evidence]

    def only_of(self, tool: str) -> str | None:
        """The outputs of all calls that succeeded, if all are of one tool; ``None`` if there are others, or none.

        Args:
            tool: wire name.
        """
        results = [result for result, _ in self._earlier.values()]
        if not results or any(result.key.partition("_#")[0] != tool for result in results):
            return None
        return "\n".join(result.output for result in results)

    def add_again(self, call: Call) -> None:
        """Keep a repeated call: with its earlier result, or with a pointer to it if the model is still shown that result."""
        key, (first, outcome) = self._key(call.name), self._earlier[call.identity]
        # This one displaces one of the results kept now.
        if first in self._results[-KEPT + 1 :]:
            output = f"This is the same call as {first.key}, whose result stands above; it was not run again. Make another call, or answer."
        else:
            output = f"{outcome} (This is the same call as {first.key}; it was not run again.)"
        self._results.append(Result(key, call.arguments, output))

    def add_nothing(self, *, asked: bool, why: str = "No tool calls found") -> None:
        """Record that a reply had no usable call, in the reference's words.

        Args:
            asked: whether it asked for one. Such replies are counted; of those with neither a call nor an answer, only the last is kept.
            why: the one that was asked for cannot be made.
        """
        if asked:
            self._results.append(Result(self._key(_NOTHING), {}, why))
            return
        self._results = [result for result in self._results if result.key != _NOTHING]
        self._results.append(Result(_NOTHING, {}, "No tool calls found but a final answer was not returned."))

    def add_check(self, text: str) -> None:
        """Keep what a check of an answer came to, for the next step."""
        self._results.append(Result(_CHECK, {}, text))

    def _key(self, name: str) -> str:
        self._numbers[name] += 1
        return f"{name}_#{self._numbers[name]}"
