"""The held-out set as files that ``sage bench`` reads: video clips, and one JSONL of questions in SAGE-Bench's fields.

The same worlds, questions and voices as ``training.evaluate`` asks about, so both give the same tables.

    python -m training.export_set --questions 300 --out build/held-out
    sage bench build/held-out/held-out.jsonl -m NANO --frames 16 --frame-tokens 9 --judge exact --compare direct
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from training.clips import write_clip
from training.evaluate import SEED, held_out_questions
from training.speech import TEST_VOICES


def export(count: int, folder: Path, *, longest: float = float("inf")) -> Path:
    """Write the set and return its JSONL. Clips that are there already are kept: an export can be gone on with.

    Args:
        longest: seconds; questions about longer videos are left out. Synthetic videos take some time to render.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    lines = []
    for number, (world, question, _bucket) in enumerate(held_out_questions(count)):
        voice = rng.choice(TEST_VOICES)
        if world.duration > longest:
            continue
        # The name that ``training.evaluate`` gives it: the model reads it.
        name = f"clip{number}.mp4"
        rate = 4 if world.duration <= 180 else 2 if world.duration <= 600 else 1
        if not (folder / name).exists():
            write_clip(world, folder / f"part-{name}", voice=voice, size=96, rate=rate, sound="aac").replace(folder / name)
        lines.append(json.dumps({"id": number, **question.record(world, name)}))
    path = folder / "held-out.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--longest", type=float, default=float("inf"), help="seconds; leave out questions about longer videos")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(export(args.questions, args.out, longest=args.longest))


if __name__ == "__main__":
    main()
