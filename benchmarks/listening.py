"""Word errors and times of ``sage transcribe`` on your recordings, next to whisper-cli and faster-whisper on the same weights.

    python -m benchmarks.listening RECORDINGS --model ggml-base.bin [--whisper-cli PATH] [--faster-whisper FOLDER]

RECORDINGS is a folder of sound files, each with a JSON file of the same name that says what is spoken when, in seconds, and where nobody
speaks: ``{"speech": [{"start": 1.2, "end": 3.4, "text": "..."}], "silence": [{"start": 5.0, "end": 60.0}]}``. FOLDER is the same model in
CTranslate2's format; faster-whisper runs in the Python that ``--python`` names. Programs run one after another with one thread, all by
default settings but for whisper-cli, which runs greedily and with five beams. Each row is printed as soon as it is known.

A stretch of speech is lost if less than half of its words are written. An onset is the start of a stretch after 1.5 s without speech, and
the start of the cue nearest to it. A word is beside its speech if its cue does not touch the stretch that it was spoken in.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from benchmarks.transcribe import Run, measure

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHORT_FORMS = {"can't": "can not", "won't": "will not"}
ENDINGS = {"n't": " not", "'m": " am", "'re": " are", "'s": " is", "'ll": " will", "'ve": " have", "'d": " would"}
TAGS = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|♪[^♪]*♪?")

FASTER = """
import json, sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="float32", cpu_threads=int(sys.argv[4]))
segments, _ = model.transcribe(sys.argv[2], language=sys.argv[5] or None)
cues = [{"start": s.start, "end": s.end, "text": s.text} for s in segments]
json.dump(cues, open(sys.argv[3], "w"))
"""


@dataclass(frozen=True)
class Cue:
    start: float
    end: float
    text: str


@dataclass
class Score:
    """Counts over all recordings."""

    errors: int = 0
    words: int = 0
    lost: int = 0
    stretches: int = 0
    cues: int = 0
    longest: float = 0.0
    characters: int = 0
    late: int = 0
    onsets: int = 0
    silence: float = 0.0
    beside: int = 0
    matched: int = 0
    processor: float = 0.0
    peak: float = 0.0

    def row(self, name: str, against: Score | None) -> list[str]:
        ratio = f"{self.processor / against.processor:.2f}" if against else "-"
        return [
            name,
            f"{100 * self.errors / max(1, self.words):.1f}",
            f"{self.lost} of {self.stretches}",
            f"{self.cues} ({self.longest:.0f} / {self.characters})",
            f"{self.late} of {self.onsets}",
            f"{self.silence:.1f}",
            f"{self.beside} of {self.matched}",
            f"{self.peak:.0f}",
            ratio,
        ]


HEADER = (
    *("run", "WER %", "stretches lost", "cues (longest s / characters)", "onsets > 1 s off", "text over silence, s"),
    *("words beside their speech", "peak MB", "processor time / whisper-cli"),
)


def words_of(text: str) -> list[str]:
    """Lower case, without punctuation and annotations; digits as words, one by one, English short forms in full."""
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)*", TAGS.sub(" ", text.lower()).replace("’", "'"))  # noqa: RUF001
    return [part for word in found for part in _in_full(word).split()]


def _in_full(word: str) -> str:
    if word.isascii() and word.isdigit():
        return " ".join(DIGITS[int(digit)] for digit in word)
    if word in SHORT_FORMS:
        return SHORT_FORMS[word]
    return next((word.removesuffix(end) + full for end, full in ENDINGS.items() if word.endswith(end)), word)


def aligned(reference: Sequence[str], found: Sequence[str]) -> tuple[int, list[tuple[int, int]]]:
    """The least number of words to change, leave out or add, and the pairs of words that agree.

    A compound is right as one word or as two: ``blacklist``, ``black list``.
    """
    rows = [list(range(len(found) + 1))]
    for number, word in enumerate(reference, 1):
        before, row = rows[-1], [number]
        for at, other in enumerate(found, 1):
            cost = before[at - 1] if word == other else 1 + min(before[at - 1], before[at], row[-1])
            if number > 1 and other == reference[number - 2] + word:
                cost = min(cost, rows[number - 2][at - 1])
            if at > 1 and word == found[at - 2] + other:
                cost = min(cost, before[at - 2])
            row.append(cost)
        rows.append(row)
    pairs = []
    i, j = len(reference), len(found)
    while i and j:
        if reference[i - 1] == found[j - 1] and rows[i][j] == rows[i - 1][j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i > 1 and found[j - 1] == reference[i - 2] + reference[i - 1] and rows[i][j] == rows[i - 2][j - 1]:
            i, j = i - 2, j - 1
            pairs += [(i + 1, j), (i, j)]
        elif j > 1 and reference[i - 1] == found[j - 2] + found[j - 1] and rows[i][j] == rows[i - 1][j - 2]:
            i, j = i - 1, j - 2
            pairs += [(i, j)]
        elif rows[i][j] == rows[i - 1][j - 1] + 1:
            i, j = i - 1, j - 1
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return rows[-1][-1], pairs[::-1]


def judge(score: Score, truth: dict[str, Any], cues: Sequence[Cue], run: Run) -> None:
    """Add a recording to a score."""
    spoken = [(word, number) for number, stretch in enumerate(truth["speech"]) for word in words_of(stretch["text"])]
    cues = [cue for cue in cues if words_of(cue.text)]
    written = [(word, number) for number, cue in enumerate(cues) for word in words_of(cue.text)]
    errors, pairs = aligned([word for word, _ in spoken], [word for word, _ in written])
    hits = [0] * len(truth["speech"])
    for mine, theirs in pairs:
        stretch, cue = truth["speech"][spoken[mine][1]], cues[written[theirs][1]]
        hits[spoken[mine][1]] += 1
        score.beside += cue.end < stretch["start"] + 0.05 or cue.start > stretch["end"] - 0.05
    score.errors, score.words, score.matched = score.errors + errors, score.words + len(spoken), score.matched + len(pairs)
    score.lost += sum(hit < len(words_of(stretch["text"])) / 2 for hit, stretch in zip(hits, truth["speech"], strict=True))
    score.stretches += len(truth["speech"])
    score.cues += len(cues)
    score.longest = max([score.longest, *(cue.end - cue.start for cue in cues)])
    score.characters = max([score.characters, *(len(cue.text.strip()) for cue in cues)])
    last = 0.0
    for stretch in truth["speech"]:
        if stretch["start"] - last >= 1.5:
            score.onsets += 1
            score.late += min((abs(cue.start - stretch["start"]) for cue in cues), default=1e9) > 1.0
        last = stretch["end"]
    for quiet in truth.get("silence", ()):
        score.silence += sum(max(0.0, min(quiet["end"], cue.end) - max(quiet["start"], cue.start)) for cue in cues)
    score.processor += run.processor
    score.peak = max(score.peak, run.peak)


class Programs:
    """The programs that are installed, by the name of the run: each gives the cues of a sound file, and what that cost."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._out = options, folder / "out.json"
        self._environment = {**os.environ, "SAGE_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": str(options.threads)}
        self.runs: dict[str, Callable[[Path], tuple[list[Cue], Run]]] = {}
        if options.whisper_cli:
            self.runs["whisper-cli, greedy"] = lambda sound: self.whisper_cli(sound, 1)
            self.runs["whisper-cli, beam 5"] = lambda sound: self.whisper_cli(sound, 5)
        if options.faster_whisper:
            self.runs["faster-whisper"] = self.faster_whisper
        self.runs["sage"] = self.sage
        if options.also:
            self.runs[f"sage {options.also}"] = lambda sound: self.sage(sound, *shlex.split(options.also))

    def sage(self, sound: Path, *more: str) -> tuple[list[Cue], Run]:
        command = [sys.executable, "-m", "sage_cli", "transcribe", str(sound), "-m", str(self._options.model)]
        command += ["--quiet", "--threads", str(self._options.threads), "-o", str(self._out), *more]
        command += ["--language", self._options.language] if self._options.language else []
        run = measure(command, self._environment)
        return [Cue(s["start"], s["end"], s["text"]) for s in json.loads(self._out.read_text())["segments"]], run

    def whisper_cli(self, sound: Path, beams: int) -> tuple[list[Cue], Run]:
        command = [str(self._options.whisper_cli), "-m", str(self._options.model), "-f", str(sound), "-t", str(self._options.threads)]
        command += ["-bs", str(beams), "-l", self._options.language or "auto", "-oj", "-of", str(self._out.with_suffix("")), "-np"]
        run = measure(command, self._environment)
        found = json.loads(self._out.read_text(errors="replace"))["transcription"]
        return [Cue(s["offsets"]["from"] / 1000, s["offsets"]["to"] / 1000, s["text"]) for s in found], run

    def faster_whisper(self, sound: Path) -> tuple[list[Cue], Run]:
        words = [str(self._options.faster_whisper), str(sound), str(self._out), str(self._options.threads), self._options.language]
        run = measure([str(self._options.python), "-c", FASTER, *words], self._environment)
        return [Cue(**cue) for cue in json.loads(self._out.read_text())], run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS")
    parser.add_argument("--model", type=Path, required=True, help="a Whisper model in whisper.cpp's format")
    parser.add_argument("--whisper-cli", type=Path, help="whisper.cpp's program")
    parser.add_argument("--faster-whisper", type=Path, metavar="FOLDER", help="the same model in CTranslate2's format")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="a Python with faster-whisper; by default this one")
    parser.add_argument("--language", default="", help="of the recordings; by default each program detects it")
    parser.add_argument("--also", metavar="OPTIONS", help='other options of sage transcribe for one more row: --also="--no-denoise"')
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    pairs = [(path, path.with_suffix(".json")) for path in sorted(options.recordings.iterdir()) if path.suffix != ".json"]
    pairs = [(sound, text) for sound, text in pairs if text.exists()]
    if not pairs:
        raise SystemExit(f"no recordings with a JSON file of the same name in {options.recordings}")
    print(f"{options.model.name}, {len(pairs)} recording{'s'[: len(pairs) > 1]}; {machine(options.threads)}\n")
    for cells in HEADER, ["---"] * len(HEADER):
        print(f"| {' | '.join(cells)} |", flush=True)
    against: Score | None = None
    with tempfile.TemporaryDirectory() as name:
        for title, run in Programs(options, Path(name)).runs.items():
            score = Score()
            for sound, text in pairs:
                judge(score, json.loads(text.read_text()), *run(sound))
            against = score if title == "whisper-cli, greedy" else against
            print(f"| {' | '.join(score.row(title, against))} |", flush=True)


if __name__ == "__main__":
    main()
