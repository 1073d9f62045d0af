"""The model card of a run: what was trained for how long, and how right it is on held-out questions, measured through ``sage bench``.

    python -m training card --out build/nano

Whatever the numbers say: the model that is put forward is the better of SFT and SFT + RL on the held-out set.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from sage_cli.assets import Nano
from sage_cli.bench.items import RESULTS
from sage_cli.bench.records import read_records
from training.config import Run
from training.evaluate import is_right, speech_table, tables
from training.export_set import export
from training.runlog import read

RUNS: Final = {"direct": "rl-direct", "SFT": "sft", "SFT + RL": "rl"}  # columns of the tables, and folders ``run-...``
_CARD: Final = """\
# Nano models

Made by the recipe in `training/`, for demonstrations and tests. They know a synthetic world and nothing of anybody's footage.

## `sage-nano.gguf`, `mmproj-sage-nano.gguf`

A SAGE-MM in Qwen3-VL's architecture: 3.4 million parameters, language model in `q8_0` ({text:.1f} MB), vision encoder in `f16`
({vision:.1f} MB). It looks at {frames} frames of 96 by 96 pixels. Made by `python -m training all --preset {preset}`; the weights are
those of {best}.

| stage | steps | seconds |
| --- | --- | --- |
{stages}

{asked} held-out questions, other seeds than training's, all kinds and durations, answered by `sage` itself. Times of `ground` count when
start and end are within two seconds of the truth; all other answers have to be right to the word. `direct` is SFT + RL in one look,
without tools.

{tables}

## `ggml-sage-nano.bin`

A whisper for the synthetic world's sentences, trained on `espeak-ng` speech alone: whisper.cpp's format, `q8_0`, English, {whisper:.1f} MB
(most of it zero rows of the vocabulary, which compress to nothing in a wheel). It hears 5 seconds at once. On anything but such sentences
it talks nonsense.

Held-out sentences in voices it was not trained on, one at a time and in streams with pauses, as `sage transcribe` meets them; times are
those of the sentences in the streams:

{speech}
"""


def make_card(run: Run, folder: Path, *, jobs: int = os.cpu_count() or 1) -> Path:
    """Render the held-out set, have ``sage bench`` answer it, and write ``nano/``: the better model, its whisper, and ``README.md``.

    What is there already, videos and answers, is kept.

    Args:
        folder: of a run that was exported.

    Returns:
        The folder ``nano``, laid out as the one that ships.

    Raises:
        FileNotFoundError: espeak-ng is not installed, or the run has no model files.
        subprocess.CalledProcessError: ``sage bench`` failed; it has said why.
    """
    asked = export(run.held_out, folder / "held-out", longest=run.longest, jobs=jobs)
    for name in ("sft", "rl"):
        more = ["--compare", "direct"] if name == "rl" else []
        _bench(asked, folder / name, folder / f"run-{name}", jobs, more)
    records = {name: read_records(folder / f"run-{run_name}" / RESULTS) for name, run_name in RUNS.items()}
    best = max(("SFT", "SFT + RL"), key=lambda name: (_right(records[name]), name))
    out = folder / "nano"
    shutil.copytree(folder / RUNS[best], out, dirs_exist_ok=True)
    nano = Nano(out)
    text = _CARD.format(
        text=_megabytes(nano.text),
        vision=_megabytes(nano.mmproj),
        whisper=_megabytes(nano.speech),
        frames=nano.frames,
        preset=_started(read(folder)).get("preset", "nano"),
        best=best,
        stages="\n".join(_stages(read(folder))),
        asked=len(records[best]),
        tables=tables(records),
        speech=speech_table(nano),
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    return out


def _bench(asked: Path, model: Path, out: Path, jobs: int, more: list[str]) -> None:
    command = [sys.executable, "-m", "sage_cli", "bench", str(asked), "-m", str(model), "--judge", "exact", "--threads", "1"]
    command += ["--jobs", str(jobs), "-o", str(out), "-q", *(["--resume"] if out.exists() else []), *more]
    subprocess.run(command, check=True)


def _right(records: Iterable[dict[str, Any]]) -> int:
    return sum(map(is_right, records))


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def _started(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return next((line for line in lines if line["stage"] == "run"), {})


def _stages(lines: list[dict[str, Any]]) -> Iterable[str]:
    """Steps and seconds of every stage, from the log; of RL, the run that is no ablation."""
    where = _started(lines)
    for stage in ("vision", "sft", "rl", "whisper"):
        steps = [line for line in lines if line["stage"] == stage and "step" in line and line.get("run", "rl") == "rl"]
        if steps:
            yield f"| {stage} | {steps[-1]['step']:,} | {steps[-1]['seconds']:.0f} |"
    if where:
        yield f"| on | {where['device']} | torch {where['torch']} |"
