"""The stages of a run, in order, each with its share of a deadline; a stage whose result is there already is passed over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from training.config import Run, load
from training.grpo import train_rl
from training.runlog import Log
from training.sft import train_sft
from training.tokens import train_tokenizer
from training.vision import train_vision

_STARTING: Final = 12.0  # seconds that a process takes until it trains on a GPU
MAIN: Final = "main"  # the run of RL that is no ablation; its weights are rl.pt


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is carried out, which says nothing of what it computes.

    Attributes:
        preset: name, or path of a TOML file.
        folder: where checkpoints and the log go.
        device: torch's name.
        workers: processes that write samples.
        deadline: seconds for all stages together; ``None`` for none.
        variants: ablations to run beside the main run of RL.
    """

    preset: str
    folder: Path
    device: str
    workers: int
    deadline: float | None
    variants: tuple[str, ...]

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)


def prepare(options: Options) -> None:
    """Settings of torch that hold for every stage: one thread where the work is small, tensor cores where there are any."""
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
    torch.set_float32_matmul_precision("high")
    options.folder.mkdir(parents=True, exist_ok=True)


class Deadline:
    """What is left of a run's time, shared out by stage."""

    def __init__(self, run: Run, seconds: float | None) -> None:
        self._shares, self._seconds = dict(run.shares), seconds
        self._started = time.monotonic()

    def share(self, stage: str) -> float | None:
        """Seconds that a stage may take: its share of what is left among the stages that are left."""
        if self._seconds is None:
            return None
        left = self._seconds - (time.monotonic() - self._started)
        total = sum(self._shares.values())
        return max(1.0, left * self._shares.pop(stage) / total)


def make_tokenizer(run: Run, options: Options) -> None:
    path = options.folder / "tokenizer.json"
    if not path.exists():
        train_tokenizer(run.seed, run.tokenizer_questions).save(str(path))


def run_vision(run: Run, options: Options, limit: float | None) -> None:
    if not (options.folder / "vision.pt").exists():
        log = Log(options.folder, "vision")
        train_vision(
            run.vision,
            options.folder / "vision.pt",
            log,
            seed=run.seed,
            device=options.torch_device,
            workers=options.workers,
            limit=limit,
        )


def run_sft(run: Run, options: Options, limit: float | None) -> None:
    if not (options.folder / "sft.pt").exists():
        train_sft(
            run.sft,
            options.folder,
            Log(options.folder, "sft"),
            seed=run.seed,
            device=options.torch_device,
            workers=options.workers,
            limit=limit,
            bfloat16=run.bfloat16 and options.device == "cpu",
        )


def run_rl(run: Run, options: Options, variant: str, limit: float | None) -> None:
    """One run of RL: the main one, or an ablation."""
    name = "rl" if variant == MAIN else f"rl-{variant}"
    if not (options.folder / f"{name}.pt").exists():
        log = Log(options.folder, "rl")
        train_rl(run.variant(variant), options.folder, name, log, seed=run.seed, device=options.torch_device, limit=limit)


def run_rl_variants(options: Options, variants: Sequence[str], limit: float | None) -> None:
    """The main run and ablations, side by side on a GPU and one after the other on a CPU.

    Raises:
        subprocess.CalledProcessError: one of them failed; the others have ended by then.
    """
    if limit is not None:
        limit = max(1.0, limit - _STARTING if options.device != "cpu" else limit / len(variants))
    commands = [
        [sys.executable, "-m", "training", "rl", "--preset", options.preset, "--out", str(options.folder), "--device", options.device]
        + ["--variant", variant]
        + ([] if limit is None else ["--deadline", f"{limit:.0f}"])
        for variant in variants
    ]
    together = len(commands) if options.device != "cpu" else 1
    failed: list[tuple[int, list[str]]] = []
    for at in range(0, len(commands), together):
        running = [(subprocess.Popen(command, env=os.environ), command) for command in commands[at : at + together]]
        failed += [(process.returncode, command) for process, command in running if process.wait() != 0]
    if failed:
        raise subprocess.CalledProcessError(*failed[0])


def export_models(folder: Path, kind: str = "q8_0") -> list[Path]:
    """A folder of GGUF files beside every checkpoint that answers questions: ``sft/``, ``rl/`` and those of ablations."""
    from training.export import export

    found = [path for path in sorted(folder.glob("*.pt")) if path.stem == "sft" or path.stem.split("-")[0] == "rl"]
    return [file for path in found for file in export(path, folder / path.stem, kind)]


def run_all(options: Options, *, until: str = "export") -> None:
    """Tokenizer, vision warm-up, SFT, RL with its ablations, and GGUF files.

    Args:
        until: the last stage: ``"sft"``, ``"rl"`` or ``"export"``, which needs a library that not every training machine has.
    """
    run = load(options.preset)
    deadline = Deadline(run, options.deadline)
    (options.folder / "config.json").write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")
    make_tokenizer(run, options)
    run_vision(run, options, deadline.share("vision"))
    run_sft(run, options, deadline.share("sft"))
    if until == "sft":
        return
    run_rl_variants(options, (MAIN, *options.variants), deadline.share("rl"))
    if until == "export":
        export_models(options.folder)
