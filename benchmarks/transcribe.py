"""``sage transcribe`` compared with whisper.cpp's own ``whisper-cli``: time, memory, and resuming after a kill.

Both decode the same sound greedily with the same model file and threads, without a cache. The model has the dimensions of Whisper
``base`` and random weights that say a fixed number of words for every window (``tests/models/tiny_whisper.py``), which costs what the
released model costs. The sound is synthetic. Memory over hours and the kills are measured with a tiny model: neither depends on its size.

whisper-cli is built from the sources that pywhispercpp's source archive carries, so both run the same whisper.cpp:

    pip download --no-deps --no-binary pywhispercpp pywhispercpp && tar xf pywhispercpp-*.tar.gz
    cmake -S pywhispercpp-*/whisper.cpp -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build --target whisper-cli
    python -m benchmarks.transcribe --whisper-cli build/bin/whisper-cli
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tests.models.tiny_whisper import BASE, TINY, write_whisper
from tests.speech.sounds import RATE, babble


@dataclass(frozen=True)
class Run:
    seconds: float
    processor: float  # seconds of processor time: what a busy machine does not change
    first: float  # seconds until the first segment
    peak: float  # MB of resident memory
    lines: int


def measure(command: Sequence[str], environment: dict[str, str]) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    first, lines = float("nan"), 0
    for line in process.stdout:
        if line.strip():
            first = first if lines else time.perf_counter() - start
            lines += 1
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command[0]} failed with status {status}")
    scale = 1e-6 if sys.platform == "darwin" else 1e-3
    return Run(seconds, usage.ru_utime + usage.ru_stime, first, usage.ru_maxrss * scale, lines)


class Bench:
    """A folder with models and sounds, and the two programs."""

    def __init__(self, folder: Path, whisper_cli: Path | None, threads: int) -> None:
        self.folder, self.whisper_cli, self.threads = folder, whisper_cli, threads
        self.environment = {**os.environ, "SAGE_CACHE_DIR": str(folder / "cache"), "SAGE_MODELS_DIR": str(folder / "models")}

    def sage(self, sound: Path, model: Path, *more: str) -> list[str]:
        command = [sys.executable, "-m", "sage_cli", "transcribe", str(sound), "-m", str(model), "--beam-size", "1"]
        # Silero rejects synthetic speech; tiny models use volume-based detection.
        command += ["--no-vad"] if model.name == "ggml-base.bin" else []
        return [*command, "--threads", str(self.threads), "--quiet", *more]

    def run_sage(self, sound: Path, model: Path) -> Run:
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return measure(self.sage(sound, model), self.environment)

    def run_whisper_cli(self, sound: Path, model: Path) -> Run:
        return measure([str(self.whisper_cli), "-m", str(model), "-f", str(sound), "-t", str(self.threads), "-bs", "1"], self.environment)

    def sound(self, name: str, seconds: float, said: float, pause: float) -> Path:
        """Alternating speech and pauses."""
        path = self.folder / f"{name}.wav"
        if not path.exists():
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                for piece in _talk(seconds, said, pause):
                    file.writeframes(piece)
        return path


def _talk(seconds: float, said: float, pause: float) -> Iterator[bytes]:
    for number in range(round(seconds / (said + pause))):
        sound = np.concatenate([babble(said, number), np.zeros(round(pause * RATE), np.float32)])
        noise = np.random.default_rng(number).normal(0, 1e-4, len(sound))
        yield ((sound + noise) * 32767).astype("<i2").tobytes()


def compare(bench: Bench, title: str, sound: Path, model: Path, runs: int) -> None:
    """Runs are interleaved, so that a busy machine slows both alike; medians are shown."""
    programs = {"sage transcribe": bench.run_sage} | ({"whisper-cli": bench.run_whisper_cli} if bench.whisper_cli else {})
    found: dict[str, list[Run]] = {name: [] for name in programs}
    for _ in range(runs):
        for name, run in programs.items():
            found[name].append(run(sound, model))
    print(f"\n{title}")
    for name, results in found.items():
        median = {
            field: statistics.median(getattr(run, field) for run in results) for field in ("seconds", "processor", "first", "peak", "lines")
        }
        print(
            f"  {name:<16} {median['seconds']:7.1f} s   processor {median['processor']:7.1f} s   first segment {median['first']:5.1f} s"
            f"   peak {median['peak']:6.0f} MB   {median['lines']:.0f} segments"
        )
    if bench.whisper_cli:
        pairs = list(zip(found["sage transcribe"], found["whisper-cli"], strict=True))
        wall = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
        processor = statistics.median(ours.processor / theirs.processor for ours, theirs in pairs)
        print(f"  ratio of wall time {wall:.2f}, of processor time {processor:.2f}")


def kills(bench: Bench, sound: Path, model: Path, count: int) -> None:
    """Kill runs by SIGKILL at random moments, and rerun the same command."""
    expected = bench.folder / "expected.srt"
    target = bench.folder / "killed.srt"
    whole = measure(bench.sage(sound, model, "-o", str(expected)), bench.environment)
    moments = random.Random(0)
    same, repeated, windows = 0, 0, 0
    for _ in range(count):
        shutil.rmtree(bench.folder / "cache")
        process = subprocess.Popen(bench.sage(sound, model, "-o", str(target)), env=bench.environment)
        time.sleep(moments.uniform(0, whole.seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        measure(bench.sage(sound, model, "-o", str(target)), bench.environment)
        same += target.read_bytes() == expected.read_bytes()
        target.unlink()
        (kept,) = (bench.folder / "cache" / "transcripts").iterdir()
        begun = [line.split(b'"at": ')[1].split(b",")[0] for line in kept.read_bytes().splitlines() if b'"segments"' in line]
        windows += len(begun)
        repeated += len(begun) - len(set(begun))
    print(f"\nkilled {count} times in a run of {whole.seconds:.0f} s and run again")
    print(f"  {same} of {count} transcripts are those of an undisturbed run, byte for byte")
    print(f"  {repeated} of {windows} finished windows were decoded again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whisper-cli", type=Path, help="whisper.cpp's program; without it only sage is measured")
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5, help="length of the sounds that time is taken on")
    parser.add_argument("--hours", type=float, default=5, help="length of the long sound for memory")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only", choices=["time", "memory", "kills"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(folder, options.whisper_cli, options.threads)
        base, tiny = write_whisper(folder / "ggml-base.bin", BASE), write_whisper(folder / "ggml-tiny.bin", TINY)
        print(
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
            f"pywhispercpp {version('pywhispercpp')}, {options.runs} runs"
        )
        seconds = 60 * options.minutes
        if options.only in (None, "time"):
            compare(bench, f"{options.minutes:g} minutes of speech, base", bench.sound("speech", seconds, 20, 0.4), base, options.runs)
        if options.only in (None, "memory"):
            compare(bench, "10 minutes, a tenth of it speech, tiny", bench.sound("minutes", 600, 6, 54), tiny, 1)
            compare(bench, f"{options.hours:g} hours of the same", bench.sound("hours", 3600 * options.hours, 6, 54), tiny, 1)
        if options.only in (None, "kills"):
            kills(bench, bench.sound("kills", 300, 20, 0.4), tiny, options.kills)


if __name__ == "__main__":
    main()
