"""Time of ``--help`` compared with the ``--help`` of a Typer app with one command.

Runs are interleaved, so that a busy machine slows all of them alike; the ratio of medians is the figure. The limit is 1.25.
"""

from __future__ import annotations

import argparse
import os
import platform
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


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "100"})
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for arguments in PROGRAMS.values():
        seconds(arguments)  # writes bytecode, warms the file cache
    for _ in range(runs):
        for name, arguments in PROGRAMS.items():
            times[name].append(seconds(arguments))
    medians = {name: statistics.median(values) for name, values in times.items()}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}, typer {version('typer')}, {runs} runs")
    for name, median in medians.items():
        print(f"{name:<30} {1000 * median:7.1f} ms  {median / medians[BASE]:5.2f}x")


if __name__ == "__main__":
    main()
