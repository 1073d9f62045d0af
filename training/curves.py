"""A run's log as tables and pictures: losses of SFT, and over the steps of RL the reward by term, accuracy, turns, tool mix, the share of
single-turn answers, invalid and repeated calls, for the main run and each ablation.

python -m training curves --out build/nano --pictures docs/training
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.runlog import read

Line = Mapping[str, Any]
# What is drawn of every run of RL: file, title, and what it is in a line of the log.
CURVES: Final[tuple[tuple[str, str, Callable[[Line], float | None]], ...]] = (
    ("accuracy", "right answers", lambda line: line["accuracy"]),
    ("long", "right answers past ten minutes", lambda line: line["long"]),
    ("return", "return", lambda line: line["return"]),
    ("single", "answered at first look", lambda line: line["single"]),
    ("turns", "turns per question", lambda line: line["turns"]),
    ("repeated", "repeated calls, of all", lambda line: line["repeated"]),
    ("invalid", "invalid calls, of all", lambda line: line["invalid"]),
    ("kl", "KL to the SFT model", lambda line: line["kl"]),
)
TERMS: Final = ("form", "judge", "repeated", "invalid", "repaired", "final", "overlap")
TOOLS: Final = ("transcribe-speech", "ground-event", "extract-video-parts", "analyze")
_WINDOW: Final = 7  # steps in the moving mean that is drawn


def runs(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """The steps of every run of RL, by name."""
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["stage"] == "rl" and "accuracy" in line:
            found[line["run"]].append(line)
    return dict(found)


def table(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """One row per step of every run, flat."""
    rows = []
    for name, steps in runs(lines).items():
        for line in steps:
            row: dict[str, Any] = {"run": name, "step": line["step"], "seconds": line["seconds"]}
            row |= {name: give(line) for name, _, give in CURVES}
            row |= {"horizon": line["horizon"], "no_answer": line["no_answer"], "gradient": line["gradient"]}
            row |= {f"reward_{term}": line["terms"][term] for term in TERMS}
            row |= {f"calls_{tool}": line["tools"].get(tool, 0.0) for tool in TOOLS}
            rows.append(row)
    return rows


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """As CSV; numbers with four digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def _smooth(values: Sequence[float | None]) -> list[float]:
    result = []
    for at in range(len(values)):
        near = [value for value in values[max(0, at - _WINDOW + 1) : at + 1] if value is not None]
        result.append(sum(near) / len(near) if near else float("nan"))
    return result


def draw(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Write the pictures: the runs of RL side by side, the main run's rewards and tools, and the losses of SFT."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    every = runs(lines)
    written: list[Path] = []

    def keep(figure: Any, name: str) -> None:
        figure.tight_layout()
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
        written.append(path)

    if every:
        figure, axes = pyplot.subplots(2, 4, figsize=(15, 6))
        for axis, (_, title, give) in zip(axes.flat, CURVES, strict=True):
            for name, steps in every.items():
                axis.plot([line["step"] for line in steps], _smooth([give(line) for line in steps]), label=name, linewidth=1.2)
            axis.set_title(title, fontsize=10)
        axes.flat[0].legend(fontsize=7)
        keep(figure, "rl")
    if main := every.get("rl"):
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6))
        at = [line["step"] for line in main]
        for term in TERMS:
            axes[0].plot(at, _smooth([line["terms"][term] for line in main]), label=term)
        for tool in TOOLS:
            axes[1].plot(at, _smooth([line["tools"].get(tool, 0.0) for line in main]), label=tool)
        for axis, title in zip(axes, ("reward by term", "calls per question"), strict=True):
            axis.set_title(title, fontsize=10)
            axis.legend(fontsize=7)
        keep(figure, "rewards")
    tuned = [line for line in lines if line["stage"] == "sft" and "loss" in line]
    if tuned:
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6))
        for axis, title, part in ((axes[0], "drills", "copying"), (axes[1], "replies", "look")):
            steps = [line for line in tuned if part in line["loss"]]
            for name in steps[0]["loss"] if steps else ():
                axis.plot([line["step"] for line in steps], [line["loss"][name] for line in steps], label=name)
            axis.set_yscale("log")
            axis.set_title(f"loss of {title}", fontsize=10)
            axis.legend(fontsize=7)
        keep(figure, "sft")
    return written


def held_out(lines: Iterable[Line]) -> str:
    """Greedy answers to held-out tasks before and after every run of RL, as a Markdown table."""
    rows: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["stage"] == "rl" and "held_out" in line:
            rows[line["run"]].append(line["held_out"])
    head = ["| run | right | past ten minutes | right horizon | single turn | turns | calls judged reasonable |", "| --- " * 7 + "|"]

    def cells(told: Line) -> str:
        judged = told["terms"]["judge"] / 0.1
        calls = sum(told["tools"].values())
        share = f"{(judged + calls) / 2 / calls:.0%}" if calls else "-"
        numbers = (told["accuracy"], told["long"], told["horizon"], told["single"])
        return " | ".join([*("-" if number is None else f"{number:.0%}" for number in numbers), f"{told['turns']:.1f}", share])

    started: dict[str, str] = {}
    for name, told in rows.items():
        started.setdefault("base model" if name == "rl-no-sft" else "SFT", cells(told[0]))
    body = [f"| {name}, before RL | {line} |" for name, line in started.items()]
    body += [f"| {name} | {cells(told[-1])} |" for name, told in rows.items() if len(told) > 1]
    return "\n".join([*head, *body])


def report(folder: Path, pictures: Path) -> str:
    """Write ``rl.csv`` and the pictures, and return the table of held-out answers."""
    lines = read(folder)
    written = draw(lines, pictures)
    rows = table(lines)
    if rows:
        write_table(rows, pictures / "rl.csv")
        written.append(pictures / "rl.csv")
    return "\n".join([held_out(lines), "", *map(str, written)])
