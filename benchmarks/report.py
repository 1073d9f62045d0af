"""Shared by the benchmarks: a description of the machine, and Markdown tables."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def machine(threads: int) -> str:
    """One line about the machine and the threads used."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()}, {platform.system()}; {cores} of {os.cpu_count()} cores, {threads} thread{'s'[: threads > 1]}; "
        f"Python {platform.python_version()}, llama-cpp-python {version('llama-cpp-python')}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def show(title: str, threads: int, header: Sequence[str], rows: Sequence[Sequence[str]], *notes: str) -> None:
    """Print a section: the machine, a table and notes."""
    print(f"\n### {title}\n\n{machine(threads)}\n")
    for cells in [header, ["---"] * len(header), *rows]:
        print(f"| {' | '.join(cells)} |")
    for note in notes:
        print(f"\n{note}")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of paired runs."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
