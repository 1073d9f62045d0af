"""Time of ``--help`` compared with the ``--help`` of a Typer app with one command.

Runs are interleaved, so that a busy machine slows all of them alike; the ratio of medians is the figure. On a busy machine, use processor
time. The limit is 1.25.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

ONE_COMMAND = """
import typer
app = typer.Typer()
@app.command()
def main(name: str, count: int = 1) -> None:
    "Say hello."
app()
"""
SAGE = "from sage_cli.cli import main; main()"
PROGRAMS = {
    "bare interpreter": ["-c", "pass"],
    "one-command Typer app --help": ["-c", ONE_COMMAND, "--help"],
    "sage --help": ["-c", SAGE, "--help"],
    "sage ask --help": ["-c", SAGE, "ask", "--help"],
}
BASE = "one-command Typer app --help"


def cost(arguments: list[str]) -> tuple[float, float]:
    """Seconds of wall time and of processor time of a program."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "100"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for arguments in PROGRAMS.values():
        cost(arguments)  # writes bytecode, warms the file cache
    for _ in range(runs):
        for name, arguments in PROGRAMS.items():
            costs[name].append(cost(arguments))
    medians = {name: [statistics.median(column) for column in zip(*values, strict=True)] for name, values in costs.items()}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}, typer {version('typer')}, {runs} runs")
    for name, (wall, processor) in medians.items():
        base_wall, base_processor = medians[BASE]
        print(f"{name:<30} wall {1000 * wall:7.1f} ms {wall / base_wall:5.2f}x, ", end="")
        print(f"processor {1000 * processor:7.1f} ms {processor / base_processor:5.2f}x")


if __name__ == "__main__":
    main()
