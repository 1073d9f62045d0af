"""``sage transcribe`` of a file that was transcribed before, compared with the first time: ``python -m benchmarks.transcripts``.

Synthetic speech, and a model with the dimensions of Whisper ``base`` and random weights (see :mod:`benchmarks.transcribe`).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.report import median, ratio, show
from benchmarks.transcribe import Bench, measure
from tests.models.tiny_whisper import BASE, write_whisper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="of speech")
    parser.add_argument("--runs", type=int, default=1, help="first times; a second time follows each")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), None, options.threads)
        model = write_whisper(Path(name) / "ggml-base.bin", BASE)
        sound = bench.sound("speech", 60 * options.minutes, 20, 0.4)
        cold, warm, lines = [], [], []
        for _ in range(options.runs):
            first = bench.run_sage(sound, model)
            again = measure(bench.sage(sound, model), bench.environment)
            cold.append(first.seconds)
            warm.append(again.seconds)
            lines.append((first.lines, again.lines))
    if any(first != again for first, again in lines):
        raise SystemExit(f"the transcripts differ: {lines}")
    show(
        f"Transcripts again: {options.minutes:g} minutes of speech, base",
        options.threads,
        ["first time", "again", "first time / again"],
        [[f"{median(cold):.1f} s", f"{median(warm):.2f} s", f"{ratio(cold, warm):.0f}"]],
    )


if __name__ == "__main__":
    main()
