"""The held-out set as files that ``sage bench`` reads: video clips, and one JSONL of questions in SAGE-Bench's fields.

The same worlds, questions and voices as ``training.evaluate`` asks about, so both give the same tables.
"""

from __future__ import annotations

import json
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from sage_cli.signals import end_with_parent
from training.clips import write_clip
from training.evaluate import SEED, held_out_questions
from training.speech import TEST_VOICES
from training.world import World


def export(count: int, folder: Path, *, longest: float = float("inf"), jobs: int = 1) -> Path:
    """Write the set and return its JSONL. Clips that are there already are kept: an export can be gone on with.

    Args:
        longest: seconds; questions about longer videos are left out. Synthetic videos take some time to render.
        jobs: processes that render.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    lines = []
    missing: list[tuple[World, Path, str]] = []
    for number, (world, question) in enumerate(held_out_questions(count)):
        voice = rng.choice(TEST_VOICES)
        if world.duration > longest:
            continue
        # The name that ``training.evaluate`` gives it: the model reads it.
        name = f"clip{number}.mp4"
        if not (folder / name).exists():
            missing.append((world, folder / name, voice))
        lines.append(json.dumps({"id": number, **question.record(world, name)}))
    with ProcessPoolExecutor(jobs, initializer=end_with_parent) as pool:
        for done in pool.map(_write, *zip(*missing, strict=True)) if missing else ():
            print(done, flush=True)
    path = folder / "held-out.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _write(world: World, path: Path, voice: str) -> Path:
    rate = 4 if world.duration <= 180 else 2 if world.duration <= 600 else 1
    return write_clip(world, path.with_name(f"part-{path.name}"), voice=voice, size=96, rate=rate, sound="aac").replace(path)
