"""How good the nano models are: held-out questions about held-out videos, answered by ``sage`` itself from the shipped files.

Other seeds than training's, other voices, real video files, the agent with its real tools. Prints the tables of the model card.

    python -m training.evaluate --questions 300
    python -m training.evaluate --speech-only
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import Answer, ToolCalled
from sage_cli.assets import NANO, Nano
from sage_cli.model.llama import LlamaModel
from sage_cli.speech import Transcriber
from sage_cli.tools import TOOLS
from sage_cli.video import Video, uniform_times
from training.clips import write_clip
from training.questions import BUCKETS, KINDS, MAKERS, Kind, Question, some_question
from training.speech import SAMPLE_RATE, TEST_VOICES, all_sentences, held_out, speak
from training.words import word_errors
from training.world import World

SEED: Final = 20_260_101
TOLERANCE: Final = 2.0  # seconds, for each end of a grounded event


@dataclass(frozen=True, slots=True)
class Result:
    """One question's outcome. ``turns`` counts tool calls; ``many`` is whether any was needed."""

    kind: Kind
    bucket: tuple[int, int]
    right: bool
    turns: int
    many: bool
    seconds: float


def is_right(question: Question, answer: str | None) -> bool:
    """Whether an answer is the reference, word for word; of a grounded event, both times within :data:`TOLERANCE`."""
    if answer is None:
        return False
    if question.kind != "ground":
        return answer.strip().lower() == question.answer.lower()
    found = [3600 * int(h) + 60 * int(m) + int(s) for h, m, s in re.findall(r"(\d\d):(\d\d):(\d\d)", answer)]
    return len(found) == 2 and all(abs(a - b) <= TOLERANCE for a, b in zip(found, question.evidence, strict=True))


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


def evaluate(nano: Nano, count: int, *, tools: bool, report: Callable[[str], None], threads: int = 2) -> list[Result]:
    """Ask them all."""
    results = []
    rng = random.Random(SEED)
    with (
        tempfile.TemporaryDirectory() as folder,
        LlamaModel(nano.text, nano.mmproj, threads=threads) as model,
    ):
        transcriber = Transcriber(nano.speech, threads=threads)
        for number, (world, question, bucket) in enumerate(held_out_questions(count)):
            rate = 4 if world.duration <= 180 else 2 if world.duration <= 600 else 1
            path = write_clip(world, Path(folder) / f"clip{number}.mp4", voice=rng.choice(TEST_VOICES), size=96, rate=rate)
            agent = Agent(
                model,
                Video(path),
                tools=TOOLS if tools else (),
                settings=Settings(frames=nano.frames, frame_tokens=nano.frame_tokens, prompts_dir=nano.prompts),
                transcriber=lambda: transcriber,
            )
            started = time.monotonic()
            events = list(agent.run(question.text))
            seconds = time.monotonic() - started
            path.unlink()
            answer = events[-1].answer if isinstance(events[-1], Answer) else None
            calls = [event.tool for event in events if isinstance(event, ToolCalled)]
            result = Result(question.kind, bucket, is_right(question, answer), len(calls), needs_tools(world, question), seconds)
            results.append(result)
            mark = "right" if result.right else f"WRONG, not {question.answer!r}"
            report(f"{number:4} {question.kind:7} {world.duration:6.0f} s  {question.text}  ->  {answer!r} {mark}  {calls} {seconds:.1f} s")
    return results


# ---- tables --------------------------------------------------------------------------------------------------------


def _share(oks: list[bool]) -> str:
    return f"{100 * sum(oks) / len(oks):.0f} % ({sum(oks)}/{len(oks)})" if oks else "-"


def tables(agent: list[Result], single: list[Result]) -> str:
    """By kind, by duration, and the choice between one turn and many."""
    lines = ["| kind | agent | one turn, no tools |", "|---|---|---|"]
    lines += [
        f"| {kind} | {_share([r.right for r in agent if r.kind == kind])} | {_share([r.right for r in single if r.kind == kind])} |"
        for kind in KINDS
    ]
    lines += [f"| all | {_share([r.right for r in agent])} | {_share([r.right for r in single])} |", ""]
    lines += ["| video, seconds | agent | one turn, no tools |", "|---|---|---|"]
    for bucket in BUCKETS:
        shares = [_share([r.right for r in results if r.bucket == bucket]) for results in (agent, single)]
        lines.append(f"| {bucket[0]}-{bucket[1]} | {shares[0]} | {shares[1]} |")
    choice = _share([(result.turns > 0) == result.many for result in agent])
    lines += ["", f"Right choice between one turn and many: {choice}. Mean time a question: {np.mean([r.seconds for r in agent]):.1f} s."]
    return "\n".join(lines)


def speech_table(nano: Nano, threads: int = 2) -> str:
    """Word error rate on held-out sentences in held-out voices, through ``sage_cli.speech``."""
    transcriber = Transcriber(nano.speech, threads=threads)
    errors: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for voice in TEST_VOICES:
        for text in filter(held_out, all_sentences()):
            sound = np.pad(speak(text, voice), SAMPLE_RATE // 2)
            heard = " ".join(segment.text for segment in transcriber.stream(sound))
            errors[voice].append(word_errors(text, heard))
    lines = ["| voice | word error rate |", "|---|---|"]
    errors["all"] = [pair for pairs in list(errors.values()) for pair in pairs]
    for voice, found in errors.items():
        wrong, total = (sum(numbers) for numbers in zip(*found, strict=True))
        lines.append(f"| {voice} | {100 * wrong / total:.1f} % of {total} words |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--speech-only", action="store_true")
    parser.add_argument("--models", type=Path, help="folder with other files than the shipped ones")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    nano = NANO if args.models is None else Nano(args.models)
    print(speech_table(nano, args.threads), flush=True)
    if args.speech_only:
        return
    results = [
        evaluate(nano, args.questions, tools=tools, report=lambda line: print(line, flush=True), threads=args.threads)
        for tools in (True, False)
    ]
    print(tables(*results))


if __name__ == "__main__":
    main()
