"""How good the nano models are, on held-out questions about held-out videos: other seeds than training's, other voices, real video files,
``sage`` itself with its real tools. Prints the tables of the model card.

    python -m training.export_set --questions 328 --out build/held-out
    sage bench build/held-out -m nano --judge exact --compare direct -o build/run
    python -m training.evaluate build/run
    python -m training.evaluate --speech-only
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from sage_cli.assets import NANO, Nano
from sage_cli.bench.items import RESULTS
from sage_cli.bench.records import read_records
from sage_cli.speech import Transcriber
from sage_cli.timecode import parse
from sage_cli.video import uniform_times
from training.questions import BUCKETS, KINDS, MAKERS, Kind, Question, some_question
from training.sounds import record, stream
from training.speech import SAMPLE_RATE, TEST_VOICES, all_sentences, held_out, speak
from training.words import word_errors
from training.world import World

SEED: Final = 20_260_101
GROUND_TOLERANCE: Final = 2.0  # seconds
_CLOCK: Final = re.compile(r"\d\d:\d\d:\d\d")
Record: TypeAlias = dict[str, Any]


def needs_tools(world: World, question: Question) -> bool:
    """Whether the first look cannot answer: what a question is about may or may not be in the sampled frames."""
    if question.form != "colour":
        return question.kind != "visual"
    shape = question.subject.split()[-1]
    return all(world.shown(time).thing.shape != shape for time in uniform_times(world.duration, NANO.frames))


def held_out_questions(count: int, seed: int = SEED) -> Iterable[tuple[World, Question, tuple[int, int]]]:
    """Questions of every kind in every duration bucket that the kind can have, as evenly as their number allows."""
    rng = random.Random(seed)
    places: list[tuple[Kind, tuple[int, int]]] = [(kind, bucket) for kind in KINDS for bucket in BUCKETS if bucket[1] > MAKERS[kind][1]]
    for number in range(count):
        kind, (low, high) = places[number * 5 % len(places)] if len(places) % 5 else places[number % len(places)]
        duration = round(rng.uniform(max(low, MAKERS[kind][1]), high) * 2) / 2
        yield *some_question(rng, kind, duration), (low, high)


# ---- tables --------------------------------------------------------------------------------------------------------


def _share(oks: list[bool]) -> str:
    return f"{100 * sum(oks) / len(oks):.0f} % ({sum(oks)}/{len(oks)})" if oks else "-"


def times_agree(said: str, true: str) -> bool:
    """Whether two answers name the same times, to :data:`GROUND_TOLERANCE`."""
    ours, theirs = ([parse(time) for time in _CLOCK.findall(text)] for text in (said, true))
    return len(ours) == len(theirs) and all(abs(one - other) <= GROUND_TOLERANCE for one, other in zip(ours, theirs, strict=True))


def is_right(record: Record) -> bool:
    """What the exact judge says; of grounding, whether the times agree."""
    if record["kind"] != "ground":
        return bool(record["is_correct"])
    return times_agree(record["answer"] or "", record["full_answer"])


def tables(agent: Sequence[Record], direct: Sequence[Record]) -> str:
    """By kind, by duration, and the choice between one turn and many; of runs of ``sage bench`` with tools and without."""

    def row(name: str, matches: Callable[[Record], bool]) -> str:
        shares = [_share([is_right(record) for record in records if matches(record)]) for records in (agent, direct)]
        return f"| {name} | {shares[0]} | {shares[1]} |"

    lines = ["| kind of question | agent | one look, no tools |", "| --- | --- | --- |"]
    lines += [row(kind, lambda record, kind=kind: record["kind"] == kind) for kind in KINDS]  # type: ignore[misc]
    lines += [row("all", lambda _: True), "", "| video, seconds | agent | one look, no tools |", "| --- | --- | --- |"]
    lines += [row(f"{low}-{high}", lambda record, low=low, high=high: low <= record["duration"] < high) for low, high in BUCKETS]  # type: ignore[misc]
    wanted = [needs_tools(world, question) for world, question, _ in held_out_questions(len(agent))]
    choice = _share([record["used_tool_calls"] == wanted[int(record["id"])] for record in agent])
    seconds = np.mean([record["seconds"] for record in agent])
    return "\n".join([*lines, "", f"Right choice between one turn and many: {choice}. Mean time a question: {seconds:.1f} s."])


def speech_table(nano: Nano, threads: int = 2) -> str:
    """Held-out sentences in held-out voices, through ``sage_cli.speech``: one at a time, and in streams as ``sage transcribe`` meets them.

    Word error rates, and of the sentences of a stream that are heard word for word, the share whose times are right to 0.3 s.
    """
    transcriber = Transcriber(nano.speech, threads=threads)
    texts = [text for text in all_sentences() if held_out(text)]
    rng = random.Random(SEED)
    rows: list[tuple[str, list[tuple[int, int]], list[tuple[int, int]], list[bool]]] = []
    for voice in TEST_VOICES:
        alone, packed, timely = [], [], []
        for text in texts:
            sound = np.pad(speak(text, voice), SAMPLE_RATE // 2)
            alone.append(word_errors(text, " ".join(segment.text for segment in transcriber.stream(sound))))
        sound, said = stream(rng, record([voice], rng.sample(texts, len(texts)), 1, SEED))
        segments = list(transcriber.stream(sound))
        packed.append(word_errors(" ".join(sentence.text for sentence in said), " ".join(segment.text for segment in segments)))
        for sentence in said:
            near = [segment for segment in segments if segment.text.strip() == sentence.text and abs(segment.start - sentence.start) < 2]
            timely += [max(abs(at.start - sentence.start), abs(at.end - sentence.end)) <= 0.3 for at in near[:1]]
        rows.append((voice, alone, packed, timely))
    every = ("all", *([item for row in rows for item in row[column]] for column in (1, 2, 3)))
    lines = ["| voice | errors, one at a time | errors, in a stream | times within 0.3 s |", "| --- | --- | --- | --- |"]
    for name, alone, packed, timely in [*rows, every]:  # type: ignore[misc]
        lines.append(f"| {name} | {_errors(alone)} | {_errors(packed)} | {_share(timely)} |")
    return "\n".join(lines)


def _errors(pairs: list[tuple[int, int]]) -> str:
    wrong, total = (sum(numbers) for numbers in zip(*pairs, strict=True))
    return f"{100 * wrong / total:.1f} % of {total} words"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a run of sage bench, with RUN-direct beside it")
    parser.add_argument("--speech-only", action="store_true")
    parser.add_argument("--models", type=Path, help="folder with another whisper than the shipped one")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.run and not args.speech_only:
        print(tables(*(read_records(folder / RESULTS) for folder in (args.run, args.run.with_name(f"{args.run.name}-direct")))))
        return
    print(speech_table(NANO if args.models is None else Nano(args.models), args.threads), flush=True)


if __name__ == "__main__":
    main()
