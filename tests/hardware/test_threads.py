"""Threads and their memory."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sage_cli.hardware.threads import Sharing

# A thread holds two large blocks and takes a third one again and again; printed is how many new pages that costs.
PROGRAM = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from sage_cli.hardware.memory import reuse_memory

def work():
    held = [np.ones(5 << 20, np.float32) for _ in range(2)]
    for _ in range(4):
        np.ones(5 << 20, np.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "reused":
    reuse_memory()
with ThreadPoolExecutor(1) as thread:
    print(-thread.submit(work).result() + thread.submit(work).result())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="reuse_memory sets options of glibc's malloc, and does nothing elsewhere")
def test_large_blocks_of_a_thread_are_reused() -> None:
    new_pages = {}
    for how in ("handed back", "reused"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True)
        new_pages[how] = int(done.stdout)
    assert new_pages["reused"] < 100 < 1000 < new_pages["handed back"]


def looked(load: Path, sharing: Sharing, running: list[int]) -> int:
    """The number of threads after looks at which so many threads ran."""
    for count in running:
        load.write_text(f"0.52 0.58 0.59 {count}/467 12345\n")
        found = sharing.threads()
    return found


@pytest.mark.parametrize(
    ("most", "processors", "running", "threads"),
    [
        (2, 2, [1] * 20, 2),
        (2, 2, [2] * 20, 1),
        (2, 2, [5] * 20, 2),  # no processor is left: each thread has a share
        (8, 8, [2] * 20, 7),
        (8, 8, [5] * 20, 4),
        (8, 8, [6] * 20, 8),
        (8, 16, [8] * 20, 8),  # there are processors for all
        (2, 2, [2] * 7, 2),  # too early to tell
        (2, 2, [2] * 19 + [1], 2),  # it has ended
        (2, 2, [3, 1, 4] * 9, 2),  # nothing ran all the time
        (2, 2, [0] * 20, 2),
    ],
)
def test_threads_leave_processors_to_programs_that_run_all_the_time(
    most: int, processors: int, running: list[int], threads: int, tmp_path: Path
) -> None:
    load = tmp_path / "loadavg"
    assert looked(load, Sharing(most, processors=processors, load=load), running) == threads


def test_threads_come_back_when_a_program_has_ended(tmp_path: Path) -> None:
    load = tmp_path / "loadavg"
    sharing = Sharing(4, processors=4, load=load)
    assert [looked(load, sharing, [count] * 20) for count in (2, 1, 3, 1)] == [3, 4, 2, 4]


@pytest.mark.parametrize("text", [None, "", "0.52 0.58 0.59", "0.52 0.58 0.59 many/467 1"])
def test_without_a_count_all_threads_compute(text: str | None, tmp_path: Path) -> None:
    load = tmp_path / "loadavg"
    if text is not None:
        load.write_text(text)
    sharing = Sharing(4, processors=4, load=load)
    assert [sharing.threads() for _ in range(20)] == [4] * 20
