"""Optimizer steps of one model over all processes: the same on one GPU, under DDP, and under DeepSpeed's ZeRO-2.

Each process gives the losses of its own rows, however many. A step is one step of the optimizer down the sum of all of them: every process
makes as many passes as the one with the most rows, since gradients are exchanged between passes, and only the last pass lets the optimizer
step. ZeRO-3 is not supported: it exchanges weights within a forward pass, which rows with and without frames do not make alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import Tensor

from sage_cli.errors import UsageError
from training.qwen.rows import RowEncoder, row_loss

T = TypeVar("T")
_PATIENCE: Final = timedelta(hours=6)  # one process may wait for another's rollouts, or for the server to load the policy
_STATE, _STEP, _RUN = "state", "step.json", "run.json"


class Updater:
    """Updates a model.

    Args:
        model: with weights in single precision; what AdamW adds to them at 1e-6 is lost in half of it.
        encoder: makes rows for it.
        rate: of learning at a step, counted from 0.
        weight_decay: of AdamW.
        clip: largest gradient norm.

    Attributes:
        model: prepared for its processes and devices.
        steps: made so far, in earlier runs too.
        begun: whether an earlier run began to write into the folder.
    """

    def __init__(self, model: Any, encoder: RowEncoder, *, rate: Callable[[int], float], weight_decay: float, clip: float) -> None:
        self._encoder, self._rate, self._clip = encoder, rate, clip
        precision = "bf16" if torch.cuda.is_available() else "no"
        self._accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)])
        plugin = self._accelerator.state.deepspeed_plugin
        if plugin is not None:
            # A row at a time. No accumulation of its own: `step` tells which pass is the last.
            plugin.deepspeed_config |= {
                "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": 1,
                "gradient_clipping": clip,
            }
        # Rows of 16,384 tokens; without it, their activations alone take more memory than a GPU has.
        model.activation_checkpointing_enable()
        model.train()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, rate(0), weight_decay=weight_decay)
        self.model, self._optimizer = self._accelerator.prepare(model, optimizer)
        self.steps = 0
        self.begun = False

    @property
    def main(self) -> bool:
        """Whether this is the process that writes the log and the checkpoints."""
        return bool(self._accelerator.is_main_process)

    def alike(self, model: Any) -> Any:
        """Another model of the same kind, to compare with: on the same device and of the same precision, and never updated."""
        weight = next(self.model.parameters())
        return model.requires_grad_(False).eval().to(weight.device, weight.dtype)

    def autocast(self) -> Any:
        """The context in which a forward pass computes as the updated model does."""
        return self._accelerator.autocast()

    # ---- processes -------------------------------------------------------------------------------------------------

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's share of what all of them have."""
        return list(items[self._accelerator.process_index :: self._accelerator.num_processes])

    def gather(self, items: Sequence[T]) -> list[T]:
        """What all processes have, that of the first one first. All of them have to ask."""
        return list(gather_object(list(items)))

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return sum(self.gather([value]))

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    # ---- steps -----------------------------------------------------------------------------------------------------

    def step(self, losses: Sequence[Callable[[], Tensor]]) -> float:
        """One step of the optimizer. Returns the gradient's norm.

        Args:
            losses: of this process. The gradient is that of their sum over all processes.
        """
        accelerator = self._accelerator
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(self.steps)
        passes = max(1, *self.gather([len(losses)]))
        for number in range(passes):
            last = number == passes - 1
            accelerator.sync_gradients = last  # DeepSpeed's engine steps in `backward` when this is true
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = losses[number]() if number < len(losses) else self._nothing()
                accelerator.backward(loss * accelerator.num_processes)  # gradients are averaged over processes
        norm: Any = accelerator.clip_grad_norm_(self.model.parameters(), self._clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.steps += 1
        return float(norm or 0.0)

    def _nothing(self) -> Tensor:
        """The loss of a pass that is made for the other processes' sake."""
        return 0.0 * row_loss(self.model, self._encoder.stand_in(), prompt_too=True)

    # ---- files -----------------------------------------------------------------------------------------------------

    def export(self, folder: Path) -> None:
        """Write a checkpoint folder as ``transformers`` lays it out, tokenizer included."""
        accelerator = self._accelerator
        weights = accelerator.get_state_dict(self.model)  # all processes take part
        if self.main:
            model = accelerator.unwrap_model(self.model)
            dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
            model.save_pretrained(folder, state_dict={name: weight.to(dtype) for name, weight in weights.items()})
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config["dtype"] = str(dtype).removeprefix("torch.")
            (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            self._encoder.save(folder)
        self.wait()

    def begin(self, folder: Path, run: Mapping[str, Any]) -> bool:
        """Begin a run in a folder, or go on from what was kept of it there. Returns whether there is anything left to do.

        Args:
            run: what its steps depend on.

        Raises:
            UsageError: the folder holds another run.
        """
        path = folder / _RUN
        wanted = {"run": json.loads(json.dumps(run)), "finished": False}
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else wanted
        self.begun = path.exists()
        self.wait()
        if other := [key for key, value in wanted["run"].items() if found["run"].get(key) != value]:
            raise UsageError(f"{folder} holds a run that differs in {' and '.join(other)}; give another --out, or delete that folder")
        if found["finished"]:
            if self.main:
                print(f"{folder} is finished; to train again, give another --out, or delete that folder", file=sys.stderr)
            return False
        self._write(path, wanted)
        kept, new = folder / _STATE, folder / f"{_STATE}.part"
        if self.main and not kept.exists() and (new / _STEP).exists():  # the run was ended between two renamings
            new.replace(kept)
        self.wait()
        if (kept / _STEP).exists():
            self._accelerator.load_state(str(kept))
            self.steps = int(json.loads((kept / _STEP).read_text(encoding="utf-8"))["step"])
        return True

    def keep(self, folder: Path) -> None:
        """Keep in ``folder/state`` what :meth:`begin` goes on from."""
        new, kept, old = (folder / f"{_STATE}{suffix}" for suffix in (".part", "", ".old"))
        if self.main:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
        self.wait()
        self._accelerator.save_state(str(new))
        self.wait()
        self._write(new / _STEP, {"step": self.steps})
        if self.main:  # renamed, not removed: there is a whole one at any moment
            if kept.exists():
                kept.replace(old)
            new.replace(kept)
            shutil.rmtree(old, ignore_errors=True)
        self.wait()

    def finish(self, folder: Path) -> None:
        """Mark the run as finished, after its last export, and remove what was kept."""
        self.wait()
        if self.main:
            run = json.loads((folder / _RUN).read_text(encoding="utf-8"))
            self._write(folder / _RUN, {**run, "finished": True})
            for suffix in ("", ".part", ".old"):
                shutil.rmtree(folder / f"{_STATE}{suffix}", ignore_errors=True)
        self.wait()

    def _write(self, path: Path, value: Mapping[str, Any]) -> None:
        """A small file, in the main process; a reader never sees half of it."""
        if self.main:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".tmp")
            new.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            new.replace(path)


def fingerprint(items: Iterable[object]) -> str:
    """Of data: the same for the same items in the same order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item}\n".encode(errors="replace"))
    return digest.hexdigest()[:16]
