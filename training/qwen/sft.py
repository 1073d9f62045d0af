"""SFT of Qwen3-VL on recorded trajectories, with ``accelerate``: the same command on one GPU, several, or DeepSpeed.

accelerate launch --config_file training/qwen/deepspeed.yaml -m training.qwen sft --data data --out build/4b-sft
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from sage_cli.errors import UsageError
from sage_cli.video import Video
from training.qwen.record import OWN, restore
from training.qwen.rows import Row, RowEncoder, row_loss
from training.qwen.settings import SFT
from training.qwen.updates import Updater, fingerprint
from training.runlog import Log

Call: TypeAlias = Mapping[str, Any]


def load_model(name: str) -> tuple[Any, RowEncoder]:
    """A model with its vision encoder frozen, and what makes rows for it."""
    import torch
    from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(name, dtype=torch.float32)
    model.model.visual.requires_grad_(False)
    return model, RowEncoder(AutoTokenizer.from_pretrained(name), name)


def model_name(model: Any) -> str:
    """Of its folder, or on the hub."""
    return Path(model.name_or_path).name


@lru_cache(maxsize=16)
def open_video(path: str) -> Video:
    """A video that several rows are about."""
    return Video(path)


def encode(encoder: RowEncoder, call: Call) -> Row:
    """A call of a trajectory as a row."""
    return encoder.row(restore(call["prompt"], open_video(call["video_path"])), call["reply"], cut=call.get("cut", False))


def calls_of(recorded: Sequence[Mapping[str, Any]], settings: SFT) -> list[Call]:
    """The calls of trajectories that train, each with its video: those of the paper's two roles, unless the settings ask for all, without
    replies that the token limit ended.

    Raises:
        UsageError: there are none, or their videos are gone.
    """
    videos = {str(item["video_path"]) for item in recorded}
    if gone := sorted(video for video in videos if not Path(video).is_file()):
        raise UsageError(
            f"{len(gone)} of {len(videos)} videos of the trajectories are not here, for example {gone[0]}; relative paths are those of the "
            "folder in which they were recorded"
        )
    calls: list[Call] = [
        {"video_path": item["video_path"], **call}
        for item in recorded
        for call in item["calls"]
        if (settings.helper or call["role"] in OWN) and not call.get("cut")
    ]
    if not calls:
        raise UsageError("there is nothing to train on: the file holds no trajectories; run `python -m training.qwen trajectories` first")
    return calls


def train(model: Any, encoder: RowEncoder, recorded: Sequence[Mapping[str, Any]], settings: SFT, out: Path, log: Log, *, seed: int) -> int:
    """Train for the epochs of the settings and save a checkpoint folder; goes on from where an interrupted run was kept, and does nothing
    where it is finished. Returns the steps.

    Args:
        recorded: trajectories, of :func:`training.qwen.record.trajectories`.

    Raises:
        UsageError: there are none, or the folder holds another run.
    """
    calls = calls_of(recorded, settings)
    steps_per_epoch = -(-len(calls) // settings.batch)
    steps = settings.epochs * steps_per_epoch
    updater = Updater(model, encoder, rate=lambda step: settings.rate * (1 - step / steps), weight_decay=0.01, clip=settings.grad_clip)
    data = fingerprint((call["video_path"], call["reply"]) for call in calls)
    run = {"model": model_name(model), "seed": seed, "settings": settings.model_dump(exclude={"keep_every"}), "data": data}
    if not updater.begin(out, run):
        return updater.steps
    if updater.main:
        log.begin(updater.steps)
    for number in range(updater.steps, steps):
        epoch, place = divmod(number, steps_per_epoch)
        order = random.Random(f"{seed}/{epoch}").sample(calls, len(calls))
        batch = order[place * settings.batch :][: settings.batch]
        told = _update(updater, encoder, updater.share(batch), settings)
        if updater.main:
            log.write(step=updater.steps, **told)
        if updater.steps % settings.keep_every == 0 and updater.steps < steps:
            updater.keep(out)
    updater.export(out)
    updater.finish(out)
    return updater.steps


def _update(updater: Updater, encoder: RowEncoder, calls: Sequence[Call], settings: SFT) -> dict[str, float]:
    """One step down the mean loss of a batch's rows that are not too long.

    Args:
        calls: this process's share of the batch.
    """
    rows = [row for row in (encode(encoder, call) for call in calls) if len(row) <= settings.longest]
    count = updater.total(len(rows))
    found = []

    def loss(row: Row) -> Tensor:
        value = row_loss(updater.model, row, prompt_too=settings.loss_on == "all") / count
        found.append(value.item())
        return value

    losses: list[Callable[[], Tensor]] = [partial(loss, row) for row in rows]
    norm = updater.step(losses)
    return {"loss": updater.total(sum(found)), "gradient": norm, "rows": count}
