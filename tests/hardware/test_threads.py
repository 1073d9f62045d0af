"""Threads and their memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A thread holds two large blocks and takes a third one again and again; printed is how many new pages that costs.
PROGRAM = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from sage_cli.hardware.threads import reuse_memory

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
