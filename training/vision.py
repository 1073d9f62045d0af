"""Vision warm-up: the encoder learns to name what each frame of a slice shows, before any language.

Without it the language model learns to ignore the vision tokens long before they say anything. A linear head on every token of a slice
names shape and color of both its frames; the heads are thrown away.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.config import Vision
from training.model import encode_slices, new_model, patches, save
from training.runlog import Clock, Log
from training.streams import Interleaved
from training.world import COLOURS, SHAPES, SIZE, Scene, Thing, background, degrade, draw, some_things

STREAMS = 4  # independent streams of slices; part of the seed
PLACEHOLDER_IDS = dict.fromkeys(("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"), 0)


def thing_labels(first: Thing, second: Thing) -> list[int]:
    """What :class:`SliceHeads` is to say of a slice whose frames show these things."""
    return [number for thing in (first, second) for number in (SHAPES.index(thing.shape), list(COLOURS).index(thing.colour))]


def some_pairs(rng: random.Random, count: int, same: float = 0.6) -> list[tuple[Thing, Thing]]:
    """What the two frames of slices show; the same thing with a probability of ``same``."""
    pairs = [some_things(rng, 2) for _ in range(count)]
    return [(first, first if rng.random() < same else second) for first, second in pairs]


def some_slices(
    rng: random.Random, noise: np.random.Generator, pairs: Sequence[tuple[Thing, Thing]]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Slices that show these things, ``(n, 2, 96, 96, 3)``, and labels ``(n, 4)``: shape and colour of the first frame, then of the
    second."""
    frames = np.empty((len(pairs), 2, SIZE, SIZE, 3), np.uint8)
    for index, (first, second) in enumerate(pairs):
        scenes = [Scene(0, 1, thing, rng.getrandbits(32)) for thing in (first, second)]
        if first == second:
            scenes[1] = scenes[0]
        frames[index] = background(rng)
        for which, scene in enumerate(scenes):
            draw(frames[index, which], scene, rng.random())
    labels = np.array([thing_labels(*pair) for pair in pairs])
    return degrade(frames.reshape(-1, SIZE, SIZE, 3), noise).reshape(frames.shape), labels


class SliceHeads(nn.Module):
    """Linear readout of a slice's embeddings: shape and colour of its first frame, then of its second.

    Every one of the slice's nine tokens has to tell them: whichever the language model attends to, it finds the answer there.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in (len(SHAPES), len(COLOURS)) * 2])

    def loss(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy, and the share of right names of each head. ``embeddings (n, 9, width)``, ``labels (n, 4)``."""
        outputs = [head(embeddings).transpose(1, 2) for head in self.heads]
        targets = labels[..., None].expand(-1, -1, embeddings.shape[1])
        losses = [functional.cross_entropy(output, targets[:, i]) for i, output in enumerate(outputs)]
        right = [(output.argmax(1) == targets[:, i]).float().mean() for i, output in enumerate(outputs)]
        return torch.stack(losses).sum(), torch.stack(right)


class SliceStream:
    """Batches of slices and labels, by the number of a stream."""

    def __init__(self, settings: Vision, seed: int) -> None:
        self._settings, self._seed = settings, seed

    def __call__(self, number: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        seed = f"vision/{self._seed}/{number}"
        rng, noise = random.Random(seed), np.random.default_rng(list(seed.encode()))
        while True:
            yield some_slices(rng, noise, some_pairs(rng, self._settings.batch, self._settings.same))


def train_vision(
    settings: Vision,
    out: Path,
    log: Log,
    *,
    seed: int,
    device: torch.device,
    workers: int,
    limit: float | None,
    stop: int | None = None,
) -> None:
    """Run the warm-up and save its weights.

    Args:
        workers: processes that draw slices.
        limit: seconds.
        stop: the step to stop after; ``None`` for all.
    """
    torch.manual_seed(seed)
    model = new_model(32, PLACEHOLDER_IDS).to(device)
    heads = SliceHeads(model.config.text_config.hidden_size).to(device)
    state = nn.ModuleDict({"visual": model.model.visual, "heads": heads})
    parameters = list(state.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=0.05, betas=(0.9, 0.98))
    clock = Clock(settings.steps, limit, stop)
    step = 0
    log.begin(step)
    with closing(Interleaved(SliceStream(settings, seed), STREAMS, workers)) as slices:
        while not clock.over(step):
            step += 1
            for group in optimizer.param_groups:
                left = (1 - clock.progress(step)) / settings.decay
                group["lr"] = settings.rate * min(1.0, step / 50, left + 0.02)
            frames, labels = next(slices)
            embeddings = encode_slices(model, patches(torch.from_numpy(frames).to(device)), deepstack_too=False)[0]
            loss, right = heads.loss(embeddings, torch.from_numpy(labels).to(device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if step % 25 == 0 or step <= 5:
                log.write(step=step, loss=loss.item(), right=right)
    save(state, out)
    log.write(step=step, saved=out.name, right=right)
