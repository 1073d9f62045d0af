"""A report as tables of text, for the terminal, Markdown and the page alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sage_cli.bench.report import Comparison, Pairs, Report
from sage_cli.text import escape_markdown

_RULE: Final = "| --- "
TITLES: Final = {
    "duration": "Video duration",
    "ques_type": "Question type",
    "kind": "Kind of question",
    "difficulty": "Difficulty",
    "modality": "Modality",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows; the first column is what a row is about, the others are figures, or sentences where ``prose`` is set."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    prose: bool = False


def tables(report: Report) -> Iterator[Table]:
    """All that a report says, most important first. Empty tables are left out."""
    yield _overall(report)
    if report.comparison:
        yield _comparison(report, report.comparison)
    for name, shares in report.by.items():
        if name == "duration" or len(shares) > 1:
            yield Table(TITLES[name], ("", "accuracy"), tuple((value, share.text) for value, share in shares.items()))
    horizons = (("single turn", report.single), ("multi-turn", report.multi))
    yield Table(
        "Horizon",
        ("", "share", "accuracy"),
        tuple((name, _part(share.total, report.accuracy.total), share.text) for name, share in horizons),
    )
    if report.tools:
        used = ((name, str(use.calls), _or_dash(use.failed), _or_dash(use.repeated)) for name, use in report.tools.items())
        yield Table("Tool calls", ("", "calls", "failed", "repeated"), tuple(used))
    if cost := tuple(_cost(report)):
        yield Table("Cost", ("", "total", "per question"), cost)
    if report.failed:
        yield Table("Failures", ("question", "reason"), report.failed, "Counted as wrong answers.")
    if report.missing:
        yield Table(
            "Missing videos", ("video",), tuple((video,) for video in report.missing), "Their questions were not asked and do not count."
        )


def answers(report: Report) -> Table:
    """Every question with its answer and verdict: for the files of a report; too long for a terminal."""
    rows = ((one.verdict, one.question, one.answer, one.reference) for one in report.answers)
    return Table("Questions", ("verdict", "question", "answer", "reference"), tuple(rows), prose=True)


def markdown(report: Report) -> str:
    """The report as GitHub's Markdown."""
    lines = [f"# {escape_markdown(report.name)}", ""]
    if report.settings:
        lines += [escape_markdown(_settings(report)), ""]
    for table in [*tables(report), answers(report)]:
        lines += [f"## {table.title}", "", _row(table.columns), _RULE * len(table.columns) + "|", *map(_row, table.rows), ""]
        lines += [escape_markdown(table.note), ""] if table.note else []
    return "\n".join(lines)


def _row(cells: Any) -> str:
    return f"| {' | '.join(escape_markdown(' '.join(cell.split()), cell=True) for cell in cells)} |"


def _settings(report: Report) -> str:
    """The settings that are known: answers of others come without frames and tools."""
    ways: dict[str, Callable[[Any], str]] = {
        "model": str,
        "frames": "{} frames".format,
        "tools": lambda tools: ", ".join(tools) or "no tools",
        "judge": "judge: {}".format,
    }
    given = ((way, report.settings.get(name)) for name, way in ways.items())
    return "; ".join(way(value) for way, value in given if value is not None) + "."


def _overall(report: Report) -> Table:
    rows = [("accuracy", report.accuracy.text)]
    rows += [("questions asked", str(report.asked))] if report.asked != report.accuracy.total else []
    rows += [("without an answer", str(report.unanswered)), ("failed", str(len(report.failed)))]
    rows += [("not judged (do not count)", str(report.unjudged))] if report.unjudged else []
    rows += [("missing videos (questions not asked)", str(len(report.missing)))] if report.missing else []
    if report.agreement:
        rows += [("judge agrees with the labels", report.agreement.text)]
    note = f"The judge differs on: {', '.join(report.disputed)}." if report.disputed else ""
    return Table("Overall", ("", "share (95% Wilson interval)"), tuple(rows), note)


def _comparison(report: Report, comparison: Comparison) -> Table:
    def row(name: str, pairs: Pairs) -> tuple[str, ...]:
        first, second = ((pairs.both + only) / max(1, pairs.total) for only in (pairs.only_first, pairs.only_second))
        return (
            name,
            str(pairs.total),
            f"{100 * first:.1f} %",
            f"{100 * second:.1f} %",
            f"{pairs.gain:+.1f}",
            f"{pairs.only_first} : {pairs.only_second}",
            _p(pairs.p),
        )

    rows = [row("all", comparison.overall)]
    rows += [row(value, pairs) for values in comparison.by.values() if len(values) > 1 for value, pairs in values.items()]
    columns = ("", "questions", "this", "other", "points", "only one right", "p")
    note = f"this: {report.name}; other: {comparison.other.name}. p: exact McNemar test, two-sided, not corrected for the number of rows."
    if comparison.unpaired:
        note += f" {comparison.unpaired} questions are in one of the two only and do not count here."
    if comparison.other.name.endswith("direct"):
        note += " In the paper, too, the model trained by reinforcement is better direct: Qwen3-VL-8B 69.8 % against 68.0 % as an agent."
    return Table("Comparison", columns, tuple(rows), note)


def _cost(report: Report) -> Iterator[tuple[str, str, str]]:
    asked = max(1, report.asked)
    if spread := report.seconds:
        each = f"mean {spread.mean:.1f}, median {spread.median:.1f}, p90 {spread.p90:.1f}, most {spread.most:.1f}"
        yield "seconds", f"{sum(report.seconds_by_question):.1f}", each
    if report.turns:
        total = sum(turns * count for turns, count in report.turns.items())
        counts = ", ".join(f"{count} x {turns}" for turns, count in report.turns.items())
        yield "model turns", str(total), f"mean {total / sum(report.turns.values()):.2f} ({counts})"
    if tokens := report.tokens:
        for name, count, reused, verb in (
            ("prompt tokens", "prompt_tokens", "prompt_reused", "reused"),
            ("output tokens", "output_tokens", "output_forced", "forced"),
            ("frame slices", "images", "images_reused", "reused"),
        ):
            yield name, f"{tokens[count]}, {_part(tokens[reused], tokens[count])} {verb}", f"mean {tokens[count] / asked:.1f}"
    if report.stages:
        for name, seconds in report.stages.items():
            yield f"{name.removesuffix('_s')}, seconds", f"{seconds:.1f}", f"mean {seconds / asked:.2f}"


def _part(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"
