"""Records of results files, of sage or published, with the fields that reports need.

Published files of ``allenai/SAGE`` come in three layouts: the list that its scorer makes (verdicts and tool counts, no trace), and JSONL
with the trace in ``complete_results``, under ``iterative_reasoner`` or, in older files, ``search_llm`` (each step's reply under
``search_results``), where ``used_tool_calls``, ``none_prediction`` and the duration are missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from sage_cli.agent.nonsense import gives_up
from sage_cli.agent.protocol import WIRE_NAMES
from sage_cli.bench.items import json_lines, seconds_of
from sage_cli.errors import UsageError
from sage_cli.text import read_unicode

Record: TypeAlias = dict[str, Any]

PAPER_NAMES: Final = {wire: paper for paper, wire in WIRE_NAMES.items()}
_STEPS: Final = ("iterative_reasoner", "search_llm")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as reports count it."""

    tool: str
    ok: bool
    repeated: bool


# The fields that reports compute with.
_COUNTED: Final[Mapping[str, TypeAdapter[Any]]] = {
    "is_correct": TypeAdapter(bool | None),
    "label": TypeAdapter(bool | None),
    "turns": TypeAdapter(NonNegativeInt),
    "tool_calls": TypeAdapter(list[Call]),
    "tool_call_types": TypeAdapter(dict[str, NonNegativeInt]),
    "seconds": TypeAdapter(FiniteFloat | None),
    "usage": TypeAdapter(dict[str, NonNegativeInt | FiniteFloat] | None),
}


def read_records(path: Path) -> list[Record]:
    """The records of a results file.

    Raises:
        UsageError: it cannot be read, or its records are not objects.
    """
    try:
        text = read_unicode(path)
        records = json.loads(text) if text.lstrip().startswith("[") else json_lines(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}: give the folder of a run, or a results file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: damaged, or not a results file ({error})") from error
    if not all(isinstance(record, dict) for record in records):
        raise UsageError(f"{path}: not a results file: a record is no JSON object")
    return list(records)


def said(record: Mapping[str, Any]) -> str | None:
    """The answer as text; ``None`` if it is missing, blank, or a text that stands for a failure."""
    answer = record.get("answer")
    text = ", ".join(map(str, answer)) if isinstance(answer, list) else "" if answer is None else str(answer)
    return None if not text.strip() or gives_up(text) else text


def complete(record: Mapping[str, Any]) -> Record:
    """The record with what reports count: ``turns``, ``tool_calls``, ``tool_call_types``, ``used_tool_calls``, ``none_prediction``,
    ``duration`` and ``seconds``, computed from the trace where they are missing. Unknown fields stay missing, as do those that other
    programs use for something else.
    """
    filled = dict(record)
    for name in _COUNTED.keys() & filled.keys():
        try:
            filled[name] = _COUNTED[name].validate_python(filled[name])
        except ValidationError:
            del filled[name]
    if "answer" in record:
        filled["none_prediction"] = said(record) is None and not record.get("error")
    filled["duration"] = seconds_of(record.get("duration", record.get("video_duration")))
    if "seconds" not in filled:
        filled["seconds"] = seconds_of(record.get("time_taken"))
    steps = _steps(record)
    if steps is not None:
        calls = list(_calls(steps))
        filled.setdefault("turns", 1 + len(steps))
        filled.setdefault("tool_calls", calls)
        filled.setdefault("tool_call_types", Counter(WIRE_NAMES.get(call.tool, call.tool) for call in calls))
    if not isinstance(record.get("used_tool_calls"), bool):
        filled["used_tool_calls"] = bool(filled.get("tool_call_types"))
    return filled


def _steps(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The reasoning steps after the first look, if the record has a trace."""
    trace = record.get("complete_results")
    if isinstance(trace, list):  # attempts: the last one counts
        trace = trace[-1] if trace else None
    if not isinstance(trace, Mapping):
        return None
    steps = next((trace[name] for name in _STEPS if isinstance(trace.get(name), list)), None)
    return None if steps is None else [step for step in steps if isinstance(step, Mapping)]


def _calls(steps: Sequence[Mapping[str, Any]]) -> Iterator[Call]:
    """The tool calls of the steps. A call is ``{wire name}_#{n}: {arguments, args_validity, ...}``."""
    before = set()
    for step in steps:
        made = step.get("tool_calls") or {}
        named = made.items() if isinstance(made, Mapping) else ((call.get("name"), call) for call in made if isinstance(call, Mapping))
        for name, call in named:
            wire = str(name).partition("_#")[0]
            details = call if isinstance(call, Mapping) else {}
            same = wire, json.dumps(details.get("arguments"), sort_keys=True)
            yield Call(PAPER_NAMES.get(wire, wire), details.get("args_validity") is not False, same in before)
            before.add(same)
