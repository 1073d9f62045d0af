"""A report as one self-contained HTML page: tables, and plots as inline SVG. For small and large screens, light and dark; no scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from sage_cli.bench.report import Report, Share
from sage_cli.bench.tables import TITLES, Table, answers, tables

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d8dee6; --ground: #fff; --first: #1f6feb; --second: #c2570c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #9aa5b3; --line: #37414d; --ground: #14181d; --first: #6cb0ff; --second: #f0914a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { color: var(--soft); margin: .25rem 0; overflow-wrap: anywhere; }
.big { font-size: 2.6rem; font-weight: 650; color: var(--ink); line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: .875rem; }
td + td, th + th { white-space: nowrap; }
.prose td { white-space: pre-line; overflow-wrap: anywhere; }
.prose td:first-child { white-space: nowrap; }
figure { margin: 2rem 0 0; }
figcaption { font-weight: 600; font-size: 1.1rem; }
svg { width: 100%; height: auto; display: block; max-width: 44rem; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg line { stroke: var(--line); }
svg .first { fill: var(--first); stroke: var(--first); }
svg .second { fill: var(--second); stroke: var(--second); }
.key { display: inline-block; width: .75rem; height: .75rem; border-radius: 50%; margin-right: .4rem; }
"""

_WIDTH, _LEFT, _RIGHT, _ROW = 420, 110, 12, 26  # of a plot, in its own units: readable when scaled down to a phone


def page(report: Report) -> str:
    """The whole page."""
    share, other = report.accuracy, report.comparison.other if report.comparison else None
    runs = [run for run in (report, other) if run is not None]
    legend = (
        "".join(
            f'<p><span class="key" style="background: var(--{colour})"></span>{escape(run.name)}</p>'
            for run, colour in zip(runs, ("first", "second"), strict=False)
        )
        if other
        else ""
    )
    plots = [_accuracy(TITLES[name], [run.by.get(name, {}) for run in runs]) for name in report.by]
    plots += [_bars("Model turns a question", {str(turns): count for turns, count in report.turns.items()})] if report.turns else []
    plots += [_bars("Seconds a question", _histogram(report.seconds_by_question))] if len(report.seconds_by_question) > 1 else []
    settings = ", ".join(f"{key}: {_value(value)}" for key, value in report.settings.items() if value not in (None, [], ()))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.name)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(report.name)}</h1>
<p class="big">{100 * share.value:.1f} %</p>
<p>{share.right} of {share.total} right; 95% interval {100 * share.low:.1f} to {100 * share.high:.1f} %</p>
{legend}
{"".join(plots)}
{"".join(map(_table, [*tables(report), answers(report)]))}
<h2>Settings</h2>
<p>{escape(settings) or "not known"}</p>
</body>
</html>
"""


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    kind = "wide prose" if table.prose else "wide"
    return f'<h2>{escape(table.title)}</h2><div class="{kind}"><table><tr>{head}</tr>{rows}</table></div>{note}\n'


# ---- plots ---------------------------------------------------------------------------------------------------------


def _accuracy(title: str, runs: Sequence[dict[str, Share]]) -> str:
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
        parts.append(f'<text x="{_LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(_short(value))}</text>')
        for number, (run, colour) in enumerate(zip(runs, ("first", "second"), strict=False)):
            if value in run:
                share, y = run[value], middle + (number - (len(runs) - 1) / 2) * 9
                low, at, high = (_LEFT + width * part for part in (share.low, share.value, share.high))
                parts.append(f'<line class="{colour}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="2"/>')
                parts.append(f'<circle class="{colour}" cx="{at:.1f}" cy="{y:.1f}" r="4"><title>{escape(share.text)}</title></circle>')
    return _figure(f"Accuracy by {title.lower()}, %", _WIDTH, height, parts)


def _bars(title: str, counts: dict[str, int]) -> str:
    """A bar for each label, in order."""
    most, width = max(counts.values()), _WIDTH - _LEFT - _RIGHT - 40
    parts = []
    for row, (label, count) in enumerate(counts.items()):
        y, length = _ROW * row + 5, width * count / most
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect class="first" x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_ROW - 10}"/>')
        parts.append(f'<text class="soft" x="{_LEFT + length + 6:.1f}" y="{y + 13}">{count}</text>')
    return _figure(title, _WIDTH, _ROW * len(counts), parts)


def _figure(title: str, width: int, height: float, parts: Iterable[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {width} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg></figure>\n'
    )


def _short(label: str, most: int = 15) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}\u2026"


def _histogram(values: Sequence[float]) -> dict[str, int]:
    """Counts between powers of two: times spread over orders of magnitude."""
    steps = [math.floor(math.log2(max(value, 2**-4))) for value in values]
    return {f"{2.0**step:g}-{2.0 ** (step + 1):g} s": steps.count(step) for step in range(min(steps), max(steps) + 1)}
