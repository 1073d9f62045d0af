"""The stages of a run, in order, each with its share of a deadline; a stage whose result is there already is passed over."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from filelock import FileLock, Timeout

from sage_cli.assets import Nano
from sage_cli.errors import UsageError
from training.config import Run, load
from training.grpo import train_rl
from training.runlog import Log
from training.sft import train_sft
from training.speech import SPEAKER
from training.tokens import train_tokenizer
from training.vision import train_vision
from training.whisper import train_whisper

_STARTING: Final = 12.0  # seconds that a process takes until it trains on a GPU
Last = Literal["sft", "rl", "export", "card"]
CONFIG: Final = "config.json"  # of a run's folder: its settings
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
    """Settings of torch that hold for every stage: one thread where the work is small, tensor cores where there are any.

    Raises:
        UsageError: this machine's torch has no such device, or the folder holds a run of other settings.
    """
    config = options.folder / CONFIG
    if config.exists() and json.loads(config.read_text(encoding="utf-8")) != json.loads(load(options.preset).model_dump_json()):
        raise UsageError(f"{options.folder} holds a run of other settings than {options.preset}; give another --out, or delete it")
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
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


def _need(options: Options, *names: str) -> None:
    """Raise a UsageError where a stage lacks what an earlier one makes."""
    for name in names:
        if not (options.folder / name).exists():
            raise UsageError(
                f"{options.folder} has no {name}, which an earlier stage makes; run 'python -m training all' or that stage first"
            )


@contextmanager
def _making(options: Options, name: str) -> Iterator[bool]:
    """While a stage makes a result; gives whether it is missing.

    Raises:
        UsageError: another process is making it.
    """
    try:
        lock = FileLock(options.folder / f".{name}.lock").acquire(timeout=0)
    except Timeout as error:
        raise UsageError(f"another process is making {options.folder / name}; wait until it ends, or give another --out") from error
    with lock:
        yield not (options.folder / name).exists()


def run_vision(run: Run, options: Options, limit: float | None) -> None:
    with _making(options, "vision.pt") as missing:
        if not missing:
            return
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
    with _making(options, "sft.pt") as missing:
        if not missing:
            return
        _need(options, "tokenizer.json", "vision.pt")
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
    with _making(options, f"{name}.pt") as missing:
        if not missing:
            return
        log, settings = Log(options.folder, "rl"), run.variant(variant)
        _need(options, "tokenizer.json", f"{settings.start}.pt")
        train_rl(settings, options.folder, name, log, seed=run.seed, device=options.torch_device, limit=limit)


def run_rl_variants(options: Options, variants: Sequence[str], limit: float | None) -> None:
    """The main run and ablations, side by side on a GPU and one after the other on a CPU.

    Raises:
        subprocess.CalledProcessError: one of them failed; the others have ended by then.
    """
    if limit is not None:
        limit = max(1.0, limit - _STARTING if options.device != "cpu" else limit / len(variants))
    together = len(variants) if options.device != "cpu" else 1
    for at in range(0, len(variants), together):
        _wait([_start(options, "rl", limit, "--variant", variant) for variant in variants[at : at + together]])


def _start(options: Options, stage: str, limit: float | None, *more: str) -> subprocess.Popen[bytes]:
    """A stage in a process of its own."""
    command = [sys.executable, "-m", "training", stage, "--preset", options.preset, "--out", str(options.folder), *more]
    command += ["--device", options.device, *([] if limit is None else ["--deadline", f"{limit:.0f}"])]
    return subprocess.Popen([*command, "--parent", str(os.getpid())])


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for all, then raise for the first that failed. If the wait is ended, so are they."""
    with _ended(running):
        failed = [process for process in running if process.wait() != 0]
    if failed:
        raise subprocess.CalledProcessError(failed[0].returncode, failed[0].args)


@contextmanager
def _ended(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End the processes that an error leaves without a parent."""
    try:
        yield
    except BaseException:
        for process in running:
            process.terminate()
        raise


def run_whisper(run: Run, options: Options, limit: float | None) -> None:
    with _making(options, "whisper.pt") as missing:
        if not missing:
            return
        train_whisper(
            run.whisper,
            options.folder,
            Log(options.folder, "whisper"),
            seed=run.seed,
            device=options.torch_device,
            limit=limit,
            bfloat16=run.bfloat16 and options.device == "cpu",
        )


def export_models(folder: Path, kind: str = "q8_0") -> list[Path]:
    """A folder of model files beside every checkpoint that answers questions: ``sft/``, ``rl/`` and those of ablations, each with the
    run's whisper, if it has one.

    Raises:
        UsageError: there is no such checkpoint.
    """
    from training import export, export_whisper

    found = [path for path in sorted(folder.glob("*.pt")) if path.stem == "sft" or re.fullmatch(r"rl(-[\w-]+)?", path.stem)]
    if not found:
        raise UsageError(f"{folder}: there is no checkpoint, sft.pt or rl.pt; train one with 'python -m training all --out {folder}'")
    files = [file for path in found for file in export.export(path, folder / path.stem, kind)]
    if (heard := folder / "whisper.pt").exists():
        for path in found:
            files.append(Nano(folder / path.stem).own_speech)
            export_whisper.export(heard, files[-1])
    return files


def run_all(options: Options, *, until: Last = "card") -> None:
    """Tokenizer, vision warm-up, SFT, RL with its ablations, whisper, model files; then the held-out set, its tables and the card.

    On a GPU the whisper is trained beside SFT and RL, which leave most of it idle. What needs espeak-ng is left out where there is none.

    Args:
        until: the last stage. ``"export"`` and ``"card"`` need libraries that not every training machine has.
    """
    run = load(options.preset)
    deadline = Deadline(run, options.deadline)
    (options.folder / CONFIG).write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")
    Log(options.folder, "run").write(preset=options.preset, device=device_name(options.torch_device), torch=torch.__version__)
    speaks = shutil.which(SPEAKER) is not None
    if not speaks:
        print(f"{SPEAKER} is not installed: the bundled whisper is used, and there is no held-out set and no card.", file=sys.stderr)
    hears = speaks and until != "sft" and run.whisper.steps > 0
    beside = _start(options, "whisper", options.deadline) if hears and options.device != "cpu" else None
    with _ended([beside] if beside else []):
        make_tokenizer(run, options)
        run_vision(run, options, deadline.share("vision"))
        run_sft(run, options, deadline.share("sft"))
        if until != "sft":
            run_rl_variants(options, (MAIN, *options.variants), deadline.share("rl"))
    if beside is not None:
        _wait([beside])
    elif hears:
        run_whisper(run, options, None)
    if until in ("export", "card"):
        export_models(options.folder)
    if until == "card" and speaks:
        from training.card import make_card

        print(make_card(run, options.folder))


def device_name(device: torch.device) -> str:
    """What a person calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} cores of a {platform.machine()} CPU"
