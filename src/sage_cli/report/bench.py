"""The report of a measurement as one self-contained HTML page: tables, and plots as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from sage_cli.bench.report import Report, Share
from sage_cli.bench.tables import TITLES, answers, tables
from sage_cli.report.page import render
from sage_cli.text import shortened

_COLOURS: Final = ("first", "second")
_WIDTH, _LEFT, _RIGHT, _ROW = 420, 110, 12, 26  # of a plot, in its own units: readable when scaled down to a phone


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing: elements of SVG, and its size in units of its own."""

    title: str
    height: int
    drawing: str
    width: int = _WIDTH


def bench_page(report: Report) -> str:
    """The whole page."""
    runs = [report, report.comparison.other] if report.comparison else [report]
    settings = ", ".join(f"{key}: {_value(value)}" for key, value in report.settings.items() if value not in (None, [], ()))
    shown = [*tables(report), answers(report)]
    return render("bench.html", report=report, runs=runs, plots=[*_plots(report, runs)], tables=shown, settings=settings)


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plots(report: Report, runs: Sequence[Report]) -> Iterator[Plot]:
    for name in report.by:
        yield _accuracy(TITLES[name], [run.by.get(name, {}) for run in runs])
    if report.turns:
        yield _bars("Model turns per question", {str(turns): count for turns, count in report.turns.items()})
    if len(report.seconds_by_question) > 1:
        yield _bars("Seconds per question", _histogram(report.seconds_by_question))


def _accuracy(title: str, runs: Sequence[dict[str, Share]]) -> Plot:
    """A point and its interval for each value and run, from 0 to 100 %."""
    values = list(dict.fromkeys(value for run in runs for value in run))
    width = _WIDTH - _LEFT - _RIGHT
    height = _ROW * len(values) + 24
    parts = []
    for percent in (0, 25, 50, 75, 100):
        x = _LEFT + width * percent / 100
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 20}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{height - 4}" text-anchor="middle">{percent}</text>')
    for row, value in enumerate(values):
        middle = _ROW * row + _ROW / 2
        parts.append(f'<text x="{_LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(shortened(value, 15))}</text>')
        for number, (run, colour) in enumerate(zip(runs, _COLOURS, strict=False)):
            if value in run:
                share, y = run[value], middle + (number - (len(runs) - 1) / 2) * 9
                low, at, high = (_LEFT + width * part for part in (share.low, share.value, share.high))
                parts.append(f'<line class="{colour}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="2"/>')
                parts.append(f'<circle class="{colour}" cx="{at:.1f}" cy="{y:.1f}" r="4"><title>{escape(share.text)}</title></circle>')
    return Plot(f"Accuracy by {title.lower()}, %", height, "".join(parts))


def _bars(title: str, counts: dict[str, int]) -> Plot:
    """A bar for each label, in order."""
    most, width = max(counts.values()), _WIDTH - _LEFT - _RIGHT - 40
    parts = []
    for row, (label, count) in enumerate(counts.items()):
        y, length = _ROW * row + 5, width * count / most
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect class="first" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_ROW - 10}"/>')
        parts.append(f'<text class="soft" x="{_LEFT + length + 6:.1f}" y="{y + 13}">{count}</text>')
    return Plot(title, _ROW * len(counts), "".join(parts))


def _histogram(values: Sequence[float]) -> dict[str, int]:
    """Counts between powers of two: times spread over orders of magnitude."""
    steps = [math.floor(math.log2(max(value, 2**-4))) for value in values]
    return {f"{2.0**step:g}-{2.0 ** (step + 1):g} s": steps.count(step) for step in range(min(steps), max(steps) + 1)}
