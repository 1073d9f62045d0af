"""Seconds from a signal to the end of ``sage``, while it hashes, opens and reads files, answers and transcribes.

Each phase is interrupted by SIGINT, SIGTERM and SIGHUP at random moments after it has started. On a busy machine the processor time is the
better figure (Linux only). The files are sparse, or made here; they take 60 MB.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.media import make_audio, make_video, tone
from tests.speech.sounds import babble, hush

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NANO = ("--model", "nano", "--threads", "1", "--quiet")


def phases(folder: Path) -> dict[str, Sequence[object]]:
    """Commands that stay in one phase for long."""
    hashing = make_audio(folder / "hashing.wav", tone(1.0))
    os.truncate(hashing, 200 << 30)
    opening = make_audio(folder / "opening.mp3", tone(2.0))
    os.truncate(opening, 1 << 30)
    second = make_video(folder / "part.ts", seconds=20, size=(320, 240), audio="tone").read_bytes()
    (reading := folder / "reading.ts").write_bytes(second * (60_000_000 // len(second)))
    speech = np.repeat(np.concatenate([part for number in range(20) for part in (babble(8, number), hush(1))]), 3)
    talk = make_video(folder / "talk.mp4", seconds=180, fps=10, size=(320, 240), audio=speech[: 180 * 48000], audio_rate=48000)
    return {
        "hash a file of 200 GB": ("ask", hashing, "What?"),
        "open a file with 1 GB of zeros": ("transcribe", opening),
        "read the packets of a file": ("ask", reading, "What?"),
        "answer": ("ask", talk, "What appears?", "--frames", "64"),
        "transcribe": ("transcribe", talk),
    }


def ended(words: Sequence[object], number: signal.Signals, after_s: float) -> tuple[int, float, float] | None:
    """Exit code, seconds and processor seconds from the signal on; ``None`` if the run was over before."""
    with tempfile.TemporaryDirectory() as place:
        settings = {"SAGE_CACHE_DIR": f"{place}/cache", "SAGE_CONFIG": f"{place}/none.toml", "TMPDIR": place}
        process = subprocess.Popen(
            [sys.executable, "-m", "sage_cli", *map(str, words), *NANO],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **settings},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's background jobs ignore it
        )
        time.sleep(after_s)
        before, began = _processor_s(process.pid), time.monotonic()
        if process.poll() is not None:
            return None
        process.send_signal(number)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, time.monotonic() - began, usage.ru_utime + usage.ru_stime - before


def _processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(runs: int, seed: int, folder: Path) -> Iterator[str]:
    rng = random.Random(seed)
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "sage_cli", "transcribe", str(folder / "none.mp4"), *NANO], stderr=subprocess.DEVNULL, check=False
    )
    start = time.monotonic() - began
    for name, words in phases(folder).items():
        found = [ended(words, number, start * rng.uniform(1.0, 2.5)) for _ in range(runs) for number in SIGNALS]
        told = [one for one in found if one is not None]
        codes = ", ".join(map(str, sorted({code for code, _, _ in told})))
        wall, processor = (max((one[at] for one in told), default=0.0) for at in (1, 2))
        yield f"| {name} | {len(told)} | {codes} | {wall:.2f} s | {processor:.2f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4, help="of each signal in each phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.0f}\n\n| phase | signals | exit codes | slowest | most CPU |")
    print("| --- |" + " --- |" * 4, flush=True)
    with tempfile.TemporaryDirectory(prefix="signals-") as folder:
        for row in rows(options.runs, options.seed, Path(folder)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
