"""The report on a run's records: shares with intervals, cost, and comparison with another run on the same questions.

Works on published result files too; fields that they lack are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from statistics import fmean, median, quantiles
from typing import Any, Final, TypeAlias

from sage_cli.bench.items import BUCKETS, bucket
from sage_cli.bench.records import PAPER_NAMES, Record, complete, said
from sage_cli.bench.stats import mcnemar, wilson

_ORDER: Final = ("easy", "medium", "hard", "very hard", "visual", "verbal", "both", "mcq", "open_ended")
_TOKENS: Final = ("prompt_tokens", "prompt_reused", "output_tokens", "output_forced", "images", "images_reused")
_STAGES: Final = ("load_s", "encode_s", "prefill_s", "decode_s")


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95% Wilson interval."""

    right: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, oks: Iterable[bool]) -> Share:
        flags = list(oks)
        return cls(sum(flags), len(flags), *wilson(sum(flags), len(flags)))

    @property
    def value(self) -> float:
        return self.right / self.total if self.total else 0.0

    @property
    def text(self) -> str:
        """For people: ``61.5 % (52.9-69.4)  80/130``."""
        if not self.total:
            return "-"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f}-{100 * self.high:.1f})  {self.right}/{self.total}"


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a quantity over questions."""

    mean: float
    median: float
    p90: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        if not values:
            return None
        p90 = quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]
        return cls(fmean(values), median(values), p90, max(values))


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Calls of one tool. ``failed`` and ``repeated`` are ``None`` if the records do not contain them."""

    calls: int
    failed: int | None
    repeated: int | None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two runs on the same questions; ``p`` of the exact McNemar test."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[bool, bool]]) -> Pairs:
        count = Counter(pairs)
        return cls(
            count[True, True],
            count[True, False],
            count[False, True],
            count[False, False],
            mcnemar(count[True, False], count[False, True]),
        )

    @property
    def total(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def gain(self) -> float:
        """The difference in accuracy, in percentage points."""
        return 100 * (self.only_first - self.only_second) / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, what was answered, and the verdict: ``"right"``, ``"wrong"``, ``"no answer"``, ``"failed"`` or ``"not judged"``."""

    id: str
    question: str
    answer: str
    reference: str
    verdict: str
    reasoning: str

    @classmethod
    def of(cls, record: Record) -> Answered:
        answer, correct = said(record), record.get("is_correct")
        judged = "not judged" if correct is None else "right" if correct else "wrong"
        verdict = "failed" if record.get("error") else "no answer" if record.get("none_prediction") else judged
        texts = (record.get("question"), answer, record.get("full_answer") or record.get("correct_answer"))
        question, answer, reference = (str(text or "") for text in texts)
        return cls(_id(record), question, answer, reference, verdict, str(record.get("evaluation_reasoning") or ""))


@dataclass(frozen=True)
class Comparison:
    """This run, the first, against another.

    Attributes:
        other: the other run's report.
        overall: over all questions of both runs.
        by: the same for each value of each field.
        unpaired: questions of only one run.
    """

    other: Report
    overall: Pairs
    by: dict[str, dict[str, Pairs]]
    unpaired: int


@dataclass(frozen=True)
class Report:
    """The figures of a run.

    Attributes:
        name: of the run.
        settings: how it was made, if known.
        missing: videos that are not on this machine; their questions were not asked.
        accuracy: of the questions that were asked and judged. No answer, or a failure, is a wrong answer.
        by: the same within the values of each field.
        single, multi: of the questions answered at first look, and of those that took tools.
        failed: ids of the questions that failed, and why; several questions may share an id.
        unjudged: questions whose judge could not tell.
        agreement: how often the judge agrees with the labels in the records, if there are labels.
        disputed: ids of the questions on which they differ.
        tokens: of all questions; ``stages`` are seconds.
        answers: every question with its answer and verdict.
    """

    name: str
    settings: Mapping[str, Any]
    missing: tuple[str, ...]
    asked: int
    accuracy: Share
    by: dict[str, dict[str, Share]]
    single: Share
    multi: Share
    failed: tuple[tuple[str, str], ...]
    unanswered: int
    unjudged: int
    agreement: Share | None
    disputed: tuple[str, ...]
    tools: dict[str, ToolUse]
    turns: dict[int, int]
    seconds: Spread | None
    seconds_by_question: tuple[float, ...]
    tokens: dict[str, int]
    stages: dict[str, float]
    answers: tuple[Answered, ...]
    comparison: Comparison | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON-ready; shares have their value too."""
        data: dict[str, Any] = _plain(asdict(self))
        return data


def summarize(name: str, records: Sequence[Record], *, settings: Mapping[str, Any] | None = None, missing: Iterable[str] = ()) -> Report:
    """Count. Records may be published ones: see :func:`sage_cli.bench.records.complete`."""
    records = [complete(record) for record in records]
    judged = [record for record in records if record.get("is_correct") is not None]
    labelled = [record for record in judged if record.get("label") is not None]
    usages = [record["usage"] for record in records if record.get("usage")]
    seconds = tuple(record["seconds"] for record in records if record.get("seconds") is not None)
    turns = [record["turns"] for record in records if record.get("turns")]
    return Report(
        name=name,
        settings=settings or {},
        missing=tuple(missing),
        asked=len(records),
        accuracy=Share.of(record["is_correct"] for record in judged),
        by={
            field: {value: Share.of(record["is_correct"] for record in group) for value, group in groups.items()}
            for field, groups in _groups(judged).items()
        },
        single=Share.of(record["is_correct"] for record in judged if not record.get("used_tool_calls")),
        multi=Share.of(record["is_correct"] for record in judged if record.get("used_tool_calls")),
        failed=tuple((_id(record), str(record["error"])) for record in records if record.get("error")),
        unanswered=sum(bool(record.get("none_prediction")) for record in records),
        unjudged=len(records) - len(judged),
        agreement=Share.of(record["label"] == record["is_correct"] for record in labelled) if labelled else None,
        disputed=tuple(_id(record) for record in labelled if record["label"] != record["is_correct"]),
        tools=_tools(records),
        turns=dict(sorted(Counter(turns).items())),
        seconds=Spread.of(seconds),
        seconds_by_question=seconds,
        tokens={key: sum(usage.get(key, 0) for usage in usages) for key in _TOKENS} if usages else {},
        stages={key: sum(usage.get(key, 0) for usage in usages) for key in _STAGES} if usages else {},
        answers=tuple(Answered.of(record) for record in records),
    )


def compare(first: Sequence[Record], second: Sequence[Record], other: Report) -> Comparison:
    """Pair the questions of two runs: by their words and their video's name, so that two orders or two folders do no harm."""
    ours, theirs = (_by_question(map(complete, records)) for records in (first, second))
    shared = [(ours[key], theirs[key]) for key in ours if key in theirs]
    partners = {id(one): two for one, two in shared}

    def pairs(records: Iterable[Record]) -> Pairs:
        return Pairs.of([(record["is_correct"], partners[id(record)]["is_correct"]) for record in records])

    records = [one for one, _ in shared]
    by = {field: {value: pairs(group) for value, group in groups.items()} for field, groups in _groups(records).items()}
    return Comparison(other, pairs(records), by, len(ours) + len(theirs) - 2 * len(shared))


# ---- counting ------------------------------------------------------------------------------------------------------

_Groups: TypeAlias = dict[str, dict[str, list[Record]]]


def _groups(records: Sequence[Record]) -> _Groups:
    """Records grouped by the values of each field, in natural order; fields with a single value are left out."""
    groups: _Groups = {}
    for name in ("duration", "ques_type", "kind", "difficulty", "modality"):
        found: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            value = record.get(name)
            if value is not None:
                found[bucket(value) if name == "duration" else str(value)].append(record)
        if found:
            groups[name] = {value: found[value] for value in sorted(found, key=_natural)}
    return groups


def _natural(value: str) -> tuple[int, str]:
    known = [*(bucket(low) for low, _ in BUCKETS), *_ORDER]
    return known.index(value) if value in known else len(known), value


def _tools(records: Sequence[Record]) -> dict[str, ToolUse]:
    calls: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    told = True
    for record in records:
        if "tool_calls" in record:
            for call in record["tool_calls"]:
                calls[call.tool] += 1
                failed[call.tool] += not call.ok
                repeated[call.tool] += call.repeated
        elif types := record.get("tool_call_types"):
            told = False
            for wire, count in types.items():
                calls[PAPER_NAMES.get(wire, wire)] += count
    return {tool: ToolUse(count, failed[tool] if told else None, repeated[tool] if told else None) for tool, count in calls.most_common()}


def _by_question(records: Iterable[Record]) -> dict[tuple[str, str, int], Record]:
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for record in records:
        if record.get("is_correct") is not None:
            video = str(record.get("video_path") or record.get("path") or "")
            question, name = str(record.get("question")).strip(), PurePosixPath(video).stem
            found[question, name, seen[question, name]] = record
            seen[question, name] += 1
    return found


def _id(record: Record) -> str:
    return str(record.get("id", record.get("index", "")))


def _plain(value: Any) -> Any:
    match value:
        case {"right": int(right), "total": int(total)}:
            return {"value": right / total if total else None, **value}
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value
