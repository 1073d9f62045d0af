"""The work of a worker process: the agent of ``sage ask`` and a judge turn an item into a record.

A record has the fields of the published result files, followed by fields of sage, so either side can score the other's results. In
``allenai/SAGE`` the files are the JSONL of ``sage/eval/process.py`` and the list that ``evaluate_responses.py`` makes of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sage_cli.agent import Event, as_record
from sage_cli.agent.events import Answer, NoAnswer, StepFinished, TextDelta, ToolCalled, ToolFinished, Working
from sage_cli.agent.nonsense import COULD_NOT
from sage_cli.agent.protocol import WIRE_NAMES
from sage_cli.bench.items import Item
from sage_cli.bench.judges import Judge, JudgeChoice, ModelJudge, Verdict, choice, exact
from sage_cli.bench.records import Record, said
from sage_cli.errors import LibraryError, MediaReadError, SageError
from sage_cli.model.refusals import UnreachableError
from sage_cli.model.remote import RemoteModel
from sage_cli.session import Options, Session
from sage_cli.video import Video


@dataclass(frozen=True)
class Worker:
    """Everything a worker process needs; it is pickled.

    Attributes:
        options: for answering questions.
        judge: decides whether answers are correct.
        asks: whether a model is needed, to answer or to judge.
        key: for the judge's server.
    """

    options: Options
    judge: JudgeChoice
    asks: bool = True
    key: str = field(default="", repr=False)

    def session(self) -> Session:
        """A session with these options, without disk caches: neither answers nor costs may depend on earlier runs."""
        return Session(self.options, model_cache=False)

    def check_server(self) -> None:
        """Connect to the model's server.

        Raises:
            UnreachableError: that is not possible.
        """
        with self.session() as session:
            _ = session.model

    def __call__(self) -> Answerer:
        """Load the model, and reach the judge's server.

        Raises:
            ModelError: one of them cannot be.
        """
        session = self.session()
        if self.asks:
            _ = session.model
        return Answerer(self, session)


class Answerer:
    """Answers and judges items one after another."""

    def __init__(self, worker: Worker, session: Session) -> None:
        self._worker, self._session = worker, session
        self._judge = self._judge_of(worker.judge)

    def __call__(self, item: Item) -> Record:
        """The item's record; it reports failures of the item.

        Raises:
            OSError, MemoryError, MediaReadError, UnreachableError: the machine or the model's server failed, which says nothing about
                the item.
        """
        if item.given is not None:
            return self._judged(item, dict(item.given))
        events: list[Event] = []
        error = None
        started = time.monotonic()
        video = None
        try:
            assert item.path is not None
            self._session.forget()  # an answer must not depend on earlier items
            video = self._session.video(item.path)
            for event in self._session.ask(item.path, item.question):
                if not isinstance(event, Working):
                    events.append(event)
        except (OSError, MemoryError, MediaReadError, LibraryError):
            raise
        except UnreachableError as problem:
            self._worker.check_server()  # it may fail on this item alone
            error = str(problem)
        except SageError as problem:
            error = str(problem)
        except Exception as problem:  # noqa: BLE001
            error = f"unexpected {type(problem).__name__}: {problem}"
        seconds = time.monotonic() - started
        return self._judged(item, _record(item, video, events, seconds, error))

    def _judge_of(self, wanted: JudgeChoice) -> Judge:
        match wanted.kind:
            case "exact":
                return exact
            case "choice":
                return choice
            case "model":
                return ModelJudge(self._session.model)
            case "server":
                assert wanted.address is not None
                return ModelJudge(RemoteModel(wanted.address, key=self._worker.key))

    def _judged(self, item: Item, record: Record) -> Record:
        if (answer := said(record)) is None:
            verdict = Verdict(False, "there is no answer")
        else:
            if self._worker.asks:
                self._session.forget()
            verdict = self._judge(item, answer)
        if "is_correct" in record and item.given is not None:
            record["label"] = record["is_correct"]
        return record | {"is_correct": verdict.correct, "evaluation_reasoning": verdict.reasoning, "judge": str(self._worker.judge)}


# ---- records -------------------------------------------------------------------------------------------------------


def failure(item: Item, reason: str) -> Record:
    """The record of an item that crashed its worker."""
    kept = dict(item.given) if item.given is not None else _record(item, None, (), 0.0, reason)
    return kept | {"is_correct": None if item.given else False, "evaluation_reasoning": reason, "error": reason}


def _record(item: Item, video: Video | None, events: Sequence[Event], seconds: float, error: str | None) -> Record:
    last = events[-1] if events and isinstance(events[-1], Answer | NoAnswer) else None
    answer = last.answer if last else None
    finished = [event for event in events if isinstance(event, ToolFinished)]
    calls = [event for event in events if isinstance(event, ToolCalled)]
    outcome = "failed" if error else "answered" if answer is not None else "no_answer"
    return {
        # The published fields, in their order.
        "index": item.index,
        "id": item.id,
        "path": item.video,
        "question": item.question,
        "answer": f"{COULD_NOT}: {error}" if error else answer,
        "correct_answer": item.letter,
        "full_answer": item.reference,
        "none_prediction": answer is None and error is None,
        "could_not_produce": error is not None,
        "is_list_answer": False,
        "used_tool_calls": bool(calls),
        "tool_call_types": Counter(WIRE_NAMES[call.tool] for call in calls),
        "ques_type": item.ques_type,
        "difficulty": item.difficulty,
        "modality": item.modality,
        "duration": video.duration if video else item.duration,
        "video_path": item.video,
        "num_attempts": 1,
        "complete_results": {"iterative_reasoner": _reasoning(calls, finished)},
        # Fields of sage.
        "kind": item.kind,
        "options": item.options,
        "value": last.value if last else None,
        "outcome": outcome,
        "error": error,
        "turns": last.steps + 1 if last else 0,
        "tool_calls": [{"tool": event.tool, "ok": event.ok, "repeated": event.repeated} for event in finished],
        "seconds": round(seconds, 3),
        "usage": asdict(last.usage) if last else None,
        "events": _trace(events),
    }


def _reasoning(calls: Sequence[ToolCalled], finished: Sequence[ToolFinished]) -> list[Mapping[str, Any]]:
    """The tool calls in the reference's form: ``{wire name}_#{n}`` to arguments and result."""
    numbers: Counter[str] = Counter()
    told: list[Mapping[str, Any]] = []
    for call, done in zip(calls, finished, strict=False):
        name = WIRE_NAMES[call.tool]
        numbers[name] += 1
        outcome = {"result": done.result, "arguments": call.arguments, "rationale": call.rationale, "args_validity": done.ok}
        told.append({"tool_calls": {f"{name}_#{numbers[name]}": outcome}})
    return told


def _trace(events: Sequence[Event]) -> list[Record]:
    """The event stream, with the pieces of each text joined when the reply is complete."""
    trace: list[Record] = []
    open_texts: dict[str, Record] = {}
    for event in events:
        if isinstance(event, TextDelta) and event.field in open_texts:
            open_texts[event.field]["text"] += event.text
            continue
        trace.append(as_record(event))
        if isinstance(event, TextDelta):
            open_texts[event.field] = trace[-1]
        elif isinstance(event, StepFinished):
            open_texts.clear()
    return trace
