"""SFT of Qwen3-VL on recorded trajectories, with ``accelerate``: the same command on one GPU, several, or DeepSpeed.

accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen sft --data data --out build/4b-sft
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from sage_cli.video import Video
from training.qwen.record import restore
from training.qwen.rows import Row, RowEncoder, row_loss
from training.qwen.settings import SFT
from training.runlog import Log


def load_model(name: str) -> tuple[Any, RowEncoder]:
    """A model with its vision encoder frozen, and what makes rows for it."""
    import torch
    from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(name, dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    model.model.visual.requires_grad_(False)
    return model, RowEncoder(AutoTokenizer.from_pretrained(name))


@lru_cache(maxsize=16)
def open_video(path: str) -> Video:
    """A video that several rows are about."""
    return Video(path)


def sft_rows(encoder: RowEncoder, recorded: Sequence[Mapping[str, Any]], settings: SFT, rng: random.Random) -> Iterator[Row]:
    """Every call of every trajectory as a row, in random order; rows that are too long are dropped."""
    calls = [(item["video_path"], call) for item in recorded for call in item["calls"]]
    rng.shuffle(calls)
    for path, call in calls:
        row = encoder.row(restore(call["prompt"], open_video(path)), call["reply"])
        if len(row.ids) <= settings.longest:
            yield row


def train(model: Any, encoder: RowEncoder, recorded: Sequence[Mapping[str, Any]], settings: SFT, out: Path, log: Log, *, seed: int) -> int:
    """Train for the epochs of the settings and save a checkpoint folder. Returns the optimizer steps made.

    Args:
        recorded: trajectories, of :func:`training.qwen.record.trajectories`.
    """
    import torch
    from accelerate import Accelerator
    from transformers import get_linear_schedule_with_warmup

    accelerator = Accelerator()
    share = max(1, settings.batch // accelerator.num_processes)
    calls = sum(len(item["calls"]) for item in recorded)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], settings.rate)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, max(1, settings.epochs * -(-calls // settings.batch)))
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    steps = waiting = 0
    total = 0.0
    for epoch in range(settings.epochs):
        rows = sft_rows(encoder, recorded, settings, random.Random(f"{seed}/{epoch}"))
        for number, row in enumerate(rows):
            if number % accelerator.num_processes != accelerator.process_index:
                continue
            loss = row_loss(model, row, encoder.image_pad, prompt_too=settings.loss_on == "all")
            accelerator.backward(loss / share)
            total, waiting = total + loss.item(), waiting + 1
            if waiting < share:
                continue
            steps += 1
            _step(accelerator, model, optimizer, schedule, settings.grad_clip)
            log.write(step=steps, loss=total / waiting)
            total, waiting = 0.0, 0
    if waiting:
        steps += 1
        _step(accelerator, model, optimizer, schedule, settings.grad_clip)
        log.write(step=steps, loss=total / waiting)
    save_checkpoint(accelerator, model, encoder, out)
    return steps


def _step(accelerator: Any, model: Any, optimizer: Any, schedule: Any, clip: float) -> None:
    accelerator.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()


def save_checkpoint(accelerator: Any, model: Any, encoder: RowEncoder, out: Path) -> None:
    """A checkpoint folder as ``transformers`` lays it out, tokenizer included."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(out, state_dict=accelerator.get_state_dict(model))
        encoder.save(out)
