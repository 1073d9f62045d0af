"""Kill ``sage`` at random moments and run it again: no result may be lost or changed, no file may be left behind.

Each of ``ask``, ``transcribe``, ``bench`` and ``pull`` (from a hub on this machine) runs once undisturbed, for the expected result and
its duration. Then it is ended at random moments by SIGKILL, SIGINT, SIGTERM and SIGHUP, and run again in the same folders. Finally,
four processes do the same work on one cache at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.hub import FakeHub, Repository, running
from tests.media import make_video
from tests.speech.sounds import babble, hush

SIGNALS = ("SIGKILL", "SIGINT", "SIGTERM", "SIGHUP")
AT_ONCE = 4
_STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -signal.SIGKILL}


@dataclass(frozen=True)
class Work:
    """A command with a comparable result: ``result`` reads it from the run's folder after a successful run."""

    name: str
    words: Callable[[Path], Sequence[object]]
    result: Callable[[Path, str], object]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kill:
    """A run that was ended after some seconds, with the problems then and after the rerun."""

    work: str
    signal: str
    after_s: float
    code: int
    problems: tuple[str, ...]


def works(folder: Path, hub: FakeHub) -> list[Work]:
    """The four commands, on media and models generated in ``folder``."""
    sound = np.concatenate([part for number in range(3) for part in (babble(8, number), hush(1))])
    video = make_video(folder / "talk.mp4", seconds=24, fps=5, audio=np.repeat(sound, 3)[: 24 * 48000], audio_rate=48000)
    questions = folder / "questions.jsonl"
    rows = [{"video": str(video), "question": f"What is number {number}?", "answer": "a dog"} for number in range(4)]
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    hub.repositories["ggerganov/whisper.cpp"] = Repository({"ggml-base.bin": b"lmgg" + random.Random(1).randbytes(4_000_000)})
    nano = ("--model", "nano", "--threads", "1", "--quiet")
    resumed = ("--resume", "--frames", "4", "--direct", *nano)
    return [
        Work("ask", lambda _run: ("ask", video, "What is it?", "--frames", "8", *nano), lambda _run, out: out),
        Work("transcribe", lambda run: ("transcribe", video, "-o", run / "out" / "talk.srt", *nano), _read("out/talk.srt")),
        Work("bench", lambda run: ("bench", questions, "-o", run / "out" / "run", *resumed), _answers),
        Work(
            "pull",
            lambda _run: ("models", "pull", "whisper-base", "--quiet"),
            _read("models/whisper-base/ggml-base.bin"),
            {"HF_ENDPOINT": hub.endpoint},
        ),
    ]


def _read(path: str) -> Callable[[Path, str], object]:
    return lambda run, _out: (run / path).read_bytes()


def _answers(run: Path, _out: str) -> object:
    """The answers of a run by question; a question that was asked twice shows."""
    lines = (run / "out" / "run" / "results.jsonl").read_bytes().split(b"\n")[:-1]
    return sorted((record["question"], record["answer"]) for record in map(json.loads, lines))


class Place:
    """Separate folders for a run, so that everything in them comes from it."""

    def __init__(self, parent: Path, work: Work) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=parent))
        for name in "scratch", "out":
            (self.folder / name).mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGE_", "HF_"))}
        self._environment = kept | work.environment
        self._environment |= {
            "TMPDIR": str(self.folder / "scratch"),
            "SAGE_CACHE_DIR": str(self.folder / "cache"),
            "SAGE_MODELS_DIR": str(self.folder / "models"),
            "SAGE_CONFIG": str(self.folder / "config.toml"),
            "HF_HOME": str(self.folder / "hf"),
        }

    def start(self, work: Work) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sage_cli", *map(str, work.words(self.folder))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
            preexec_fn=_hear_signals,
        )

    def leftovers(self) -> list[str]:
        """Unfinished and temporary files."""
        unfinished = ("*.part", "*.tmp", ".sage-*")
        found = [*(self.folder / "scratch").iterdir()]
        found += [path for pattern in unfinished for path in (self.folder / "out").rglob(pattern)]
        return sorted(path.name for path in found)


def _hear_signals() -> None:
    """A job in the background inherits ignored signals."""
    for name in SIGNALS[1:]:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def undisturbed(work: Work, parent: Path) -> tuple[object, float]:
    """The expected result, and the duration in seconds."""
    place = Place(parent, work)
    began = time.monotonic()
    with place.start(work) as process:
        out, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"{work.name} fails undisturbed: {said}")
    seconds, result = time.monotonic() - began, work.result(place.folder, out)
    shutil.rmtree(place.folder)
    return result, seconds


def killed(work: Work, name: str, after_s: float, right: object, parent: Path) -> Kill:
    """End a run after some seconds, check its leftovers, and run it again to the end."""
    place = Place(parent, work)
    problems = []
    with place.start(work) as process:
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.send_signal(getattr(signal, name))
        _, said = process.communicate()
    code = process.returncode
    if code not in (0, _STATUS[name], -getattr(signal, name)):  # a signal before the command line is loaded ends it as any other
        problems.append(f"exit code {code}: {said.strip()[-300:]}")
    if "Traceback" in said or "bug in sage" in said:
        problems.append(f"stderr: {said.strip()[-300:]}")
    if name != "SIGKILL" and (left := place.leftovers()):
        problems.append(f"left {', '.join(left)}")
    if alive := _group(process.pid):
        problems.append(f"{alive} processes live on")
    for folder in (place.folder / "scratch").iterdir():  # as if a minute had passed: only then are they nobody's
        os.utime(folder, (0, 0))
    with place.start(work) as process:
        out, said = process.communicate()
    if process.returncode:
        problems.append(f"the next run ends with {process.returncode}: {said.strip()[-300:]}")
    elif (result := work.result(place.folder, out)) != right:
        problems.append(f"another result: {str(result)[:200]}")
    if work.name != "pull" and (left := place.leftovers()) and _makes_scratch(work):
        problems.append(f"left after the next run: {', '.join(left)}")
    shutil.rmtree(place.folder)
    return Kill(work.name, name, after_s, code, tuple(problems))


def _makes_scratch(work: Work) -> bool:
    """Whether this command makes temporary folders, and so removes old ones."""
    return work.name in ("ask", "transcribe", "bench")


def _group(leader: int) -> int:
    """Number of processes of a run's session that still live after at most a second."""
    for _ in range(100):
        try:
            os.killpg(leader, 0)
        except ProcessLookupError:
            return 0
        time.sleep(0.02)
    return 1


def at_once(work: Work, right: object, parent: Path) -> list[str]:
    """The same work by several processes on one cache; returns the problems."""
    place = Place(parent, work)
    processes = [place.start(work) for _ in range(AT_ONCE)]
    problems = []
    for process in processes:
        out, said = process.communicate()
        if process.returncode:
            problems.append(f"{work.name} at once: exit code {process.returncode}: {said.strip()[-300:]}")
        elif (result := work.result(place.folder, out)) != right:
            problems.append(f"{work.name} at once: another result: {str(result)[:200]}")
    if left := place.leftovers():
        problems.append(f"{work.name} at once: left {', '.join(left)}")
    shutil.rmtree(place.folder)
    return problems


def campaign(kills: int, seed: int, folder: Path) -> Iterator[Kill | str]:
    """Kills over all commands and signals, then the problems of four processes at once."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        hub = stack.enter_context(running())
        all_works = works(folder, hub)
        right = {work.name: undisturbed(work, folder) for work in all_works}
        for number in range(kills):
            work = all_works[number % len(all_works)]
            name = SIGNALS[number // len(all_works) % len(SIGNALS)]
            result, seconds = right[work.name]
            yield killed(work, name, rng.uniform(0.02, seconds), result, folder)
        for work in all_works:
            if work.name != "bench":  # a run's folder is one process's
                yield from at_once(work, right[work.name][0], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.kills} kills, seed {options.seed}; {platform.machine()}, {os.cpu_count()} cores", flush=True)
    done: list[Kill] = []
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        for one in campaign(options.kills, options.seed, Path(folder)):
            if isinstance(one, Kill):
                done.append(one)
                new = [f"{one.work} {one.signal} after {one.after_s:.2f} s: {problem}" for problem in one.problems]
            else:
                new = [one]
            problems += new
            for problem in new:
                print(f"PROBLEM {problem}", flush=True)
    print(report(done))
    print(f"\n{len(problems)} problems; {AT_ONCE} processes at once included")
    raise SystemExit(bool(problems))


def report(kills: Sequence[Kill]) -> str:
    """The figures as Markdown."""
    lines = ["| command | " + " | ".join(SIGNALS) + " | exit codes | problems |", "| --- |" + " --- |" * (len(SIGNALS) + 2)]
    for work in dict.fromkeys(kill.work for kill in kills):
        own = [kill for kill in kills if kill.work == work]
        counts = [str(sum(kill.signal == name for kill in own)) for name in SIGNALS]
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(Counter(kill.code for kill in own).items()))
        lines.append(f"| {work} | {' | '.join(counts)} | {codes} | {sum(bool(kill.problems) for kill in own)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
