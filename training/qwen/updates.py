"""Optimizer steps of one model over all processes: the same on one GPU, under DDP, and under DeepSpeed's ZeRO-2.

Each process gives the losses of its own rows, however many. A step is one step of the optimizer down the sum of all of them: every process
makes as many passes as the one with the most rows, since gradients are exchanged between passes, and only the last pass lets the optimizer
step. ZeRO-3 is not supported: it exchanges weights within a forward pass, which rows with and without frames do not make alike.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from torch import Tensor

from training.qwen.rows import RowEncoder, row_loss

T = TypeVar("T")
_PATIENCE: Final = timedelta(hours=6)  # one process may wait for another's rollouts, or for the server to load the policy
_STATE, _STEP = "state", "step.json"


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

    def keep(self, folder: Path) -> None:
        """Keep in ``folder/state`` what :meth:`resume` needs."""
        new, kept = folder / f"{_STATE}.part", folder / _STATE
        if self.main:
            shutil.rmtree(new, ignore_errors=True)
        self.wait()
        self._accelerator.save_state(str(new))
        self.wait()
        if self.main:
            (new / _STEP).write_text(json.dumps({"step": self.steps}), encoding="utf-8")
            shutil.rmtree(kept, ignore_errors=True)
            new.replace(kept)
        self.wait()

    def resume(self, folder: Path) -> bool:
        """Go on from what was kept, if anything was."""
        kept = folder / _STATE
        if not (kept / _STEP).exists():
            return False
        self._accelerator.load_state(str(kept))
        self.steps = int(json.loads((kept / _STEP).read_text(encoding="utf-8"))["step"])
        return True

    def forget(self, folder: Path) -> None:
        """Remove what was kept: the stage is finished."""
        self.wait()
        if self.main:
            shutil.rmtree(folder / _STATE, ignore_errors=True)
