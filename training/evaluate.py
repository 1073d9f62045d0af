"""How good the nano models are, on held-out questions about held-out videos: other seeds than training's, other voices, real video files,
``sage`` itself with its real tools. Makes the tables of the model card.

    python -m training card --out build/nano
    python -m training scores NAME=build/nano/run-rl
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np

from sage_cli.assets import Nano
from sage_cli.bench.stats import mcnemar, wilson
from sage_cli.speech import Transcriber
from sage_cli.timecode import parse
from training.questions import BUCKETS, KINDS, MAKERS, Kind, Question, some_question
from training.sounds import record, stream
from training.speech import SAMPLE_RATE, TEST_VOICES, all_sentences, held_out, speak
from training.trajectories import needs_tools
from training.words import word_errors
from training.world import World

SEED: Final = 20_260_101
GROUND_TOLERANCE: Final = 2.0  # seconds
LONG: Final = 600.0  # seconds; the paper quotes what it wins past ten minutes
_CLOCK: Final = re.compile(r"\d\d:\d\d:\d\d")
Record: TypeAlias = dict[str, Any]


def held_out_questions(count: int, seed: int = SEED) -> Iterable[tuple[World, Question]]:
    """Questions of every kind in every duration bucket that the kind can have, as evenly as their number allows."""
    rng = random.Random(seed)
    places: list[tuple[Kind, tuple[int, int]]] = [(kind, bucket) for kind in KINDS for bucket in BUCKETS if bucket[1] > MAKERS[kind][1]]
    for number in range(count):
        kind, (low, high) = places[number * 5 % len(places)] if len(places) % 5 else places[number % len(places)]
        duration = round(rng.uniform(max(low, MAKERS[kind][1]), high) * 2) / 2
        yield some_question(rng, kind, duration)


# ---- tables --------------------------------------------------------------------------------------------------------


def _share(oks: Sequence[bool], *, interval: bool = False) -> str:
    if not oks:
        return "-"
    text = f"{100 * sum(oks) / len(oks):.0f} % ({sum(oks)}/{len(oks)})"
    if not interval:
        return text
    low, high = wilson(sum(oks), len(oks))
    return f"{text}, {100 * low:.0f}-{100 * high:.0f}"


def times_agree(said: str, true: str) -> bool:
    """Whether two answers name the same times, to :data:`GROUND_TOLERANCE`."""
    ours, theirs = ([parse(time) for time in _CLOCK.findall(text)] for text in (said, true))
    return len(ours) == len(theirs) and all(abs(one - other) <= GROUND_TOLERANCE for one, other in zip(ours, theirs, strict=True))


def is_right(record: Record) -> bool:
    """What the exact judge says; of grounding, whether the times agree."""
    if record["kind"] != "ground":
        return bool(record["is_correct"])
    return times_agree(record["answer"] or "", record["full_answer"])


def tables(runs: Mapping[str, Sequence[Record]]) -> str:
    """Right answers by kind and by duration, and the choice between one turn and many, of some runs of ``sage bench`` by name; and the
    paired test of the last two. Intervals are Wilson's, 95 %.
    """

    def row(name: str, matches: Callable[[Record], bool], *, interval: bool = False) -> str:
        shares = [_share([is_right(record) for record in records if matches(record)], interval=interval) for records in runs.values()]
        return f"| {name} | {' | '.join(shares)} |"

    def head(what: str) -> list[str]:
        return [f"| {what} | {' | '.join(runs)} |", "| --- " * (len(runs) + 1) + "|"]

    lines = head("kind of question")
    lines += [row(kind, lambda record, kind=kind: record["kind"] == kind) for kind in KINDS]  # type: ignore[misc]
    lines += [row("all", lambda _: True, interval=True), "", *head("video, seconds")]
    lines += [row(f"{low}-{high}", lambda record, low=low, high=high: low <= record["duration"] < high) for low, high in BUCKETS]  # type: ignore[misc]
    lines += [row("past ten minutes", lambda record: record["duration"] >= LONG, interval=True), "", *head("horizon")]
    asked = 1 + max(int(record["id"]) for record in next(iter(runs.values())))  # the set leaves out what is too long for a preset
    wanted = {number: needs_tools(world, question) for number, (world, question) in enumerate(held_out_questions(asked))}

    def told(name: str, give: Callable[[Record], bool]) -> str:
        return f"| {name} | {' | '.join(_share([give(record) for record in records]) for records in runs.values())} |"

    lines.append(told("one turn", lambda record: not record["used_tool_calls"]))
    lines.append(told("right choice between one turn and many", lambda record: record["used_tool_calls"] == wanted[int(record["id"])]))
    if len(runs) > 1:
        (first, before), (second, after) = list(runs.items())[-2:]
        lines += ["", f"{first} against {second}, the same questions: {paired(before, after)}."]
        long = [[record for record in records if record["duration"] >= LONG] for records in (before, after)]
        lines.append(f"Past ten minutes: {paired(*long)}.")
    return "\n".join(lines)


def paired(before: Sequence[Record], after: Sequence[Record]) -> str:
    """Questions that only one of two runs got right, and McNemar's exact test."""
    right = {str(record["id"]): is_right(record) for record in before}
    only_second = sum(is_right(record) and not right[str(record["id"])] for record in after)
    only_first = sum(not is_right(record) and right[str(record["id"])] for record in after)
    return f"{only_first} right only in the first, {only_second} only in the second, p = {mcnemar(only_first, only_second):.2g} (McNemar)"


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
    every = [row[1:] for row in rows]
    rows.append(("all", *(list(chain.from_iterable(column)) for column in zip(*every, strict=True))))  # type: ignore[arg-type]
    lines = ["| voice | errors, one at a time | errors, in a stream | times within 0.3 s |", "| --- | --- | --- | --- |"]
    for name, alone, packed, timely in rows:
        lines.append(f"| {name} | {_errors(alone)} | {_errors(packed)} | {_share(timely)} |")
    return "\n".join(lines)


def _errors(pairs: list[tuple[int, int]]) -> str:
    wrong, total = (sum(numbers) for numbers in zip(*pairs, strict=True))
    return f"{100 * wrong / total:.1f} % of {total} words"
