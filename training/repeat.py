"""The first steps of a stage once more, against the log of an earlier run: the recipe is a program, so the losses are the same.

A CPU and a GPU add in another order, and a GPU multiplies with fewer bits: losses differ in their fifth digit at first, and more with every
step. RL is left out: one token sampled otherwise is another rollout.

    python -m training repeat --log docs/training
    python -m training repeat --log docs/training --what sft --out build/nano
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from training.config import Run
from training.runlog import Log, read
from training.sft import train_sft
from training.vision import train_vision

Stage = Literal["vision", "sft"]
NEEDED: dict[Stage, tuple[str, ...]] = {"vision": (), "sft": ("tokenizer.json", "vision.pt")}


@dataclass(frozen=True, slots=True)
class Step:
    """A logged step: its losses then and now, by name."""

    number: int
    then: Mapping[str, float]
    now: Mapping[str, float]

    @property
    def difference(self) -> float:
        """The largest difference of a loss, as a share of what it was."""
        return max(abs(self.now[name] - value) / abs(value) for name, value in self.then.items())


def repeat(run: Run, stage: Stage, log: Path, folder: Path, *, steps: int, device: torch.device, workers: int) -> list[Step]:
    """Run the first ``steps`` steps of a stage again, in a folder that is removed afterwards.

    Args:
        log: folder of the earlier run's ``log.jsonl``.
        folder: of a run that has what the stage starts from (:data:`NEEDED`).

    Returns:
        The steps that both logs hold.

    Raises:
        FileNotFoundError: there is no log, or the stage's start is missing.
    """
    before = _losses(log, stage)
    with TemporaryDirectory() as name:
        scratch = Path(name)
        for needed in NEEDED[stage]:
            shutil.copy(folder / needed, scratch)
        again = Log(scratch, stage, quiet=True)
        if stage == "vision":
            train_vision(run.vision, scratch / "vision.pt", again, seed=run.seed, device=device, workers=workers, limit=None, stop=steps)
        else:
            settings = run.sft.model_copy(update={"examine": 0})
            train_sft(settings, scratch, again, seed=run.seed, device=device, workers=workers, limit=None, stop=steps)
        after = _losses(scratch, stage)
    return [Step(number, before[number], after[number]) for number in sorted(before.keys() & after.keys())]


def _losses(folder: Path, stage: Stage) -> dict[int, dict[str, float]]:
    found = {}
    for line in read(folder):
        if line["stage"] == stage and "loss" in line:
            loss: Any = line["loss"]
            found[line["step"]] = loss if isinstance(loss, dict) else {"loss": loss}
    return found


def table(steps: list[Step]) -> str:
    """Markdown: the losses then and now, and their largest difference."""
    lines = ["| step | loss in the log | loss now | difference |", "| --- | --- | --- | --- |"]
    for step in steps:
        then, now = (" ".join(f"{losses[name]:.4f}" for name in step.then) for losses in (step.then, step.now))
        lines.append(f"| {step.number} | {then} | {now} | {step.difference:.1e} |")
    return "\n".join(lines)
