"""Vision warm-up: the encoder learns to name what each frame of a slice shows, before any language.

Without it the language model learns to ignore the vision tokens long before they say anything. A linear head on the mean of a slice's
tokens names shape and colour of both its frames; the heads are thrown away.

    python -m training.vision --steps 1000 --out build/vision.pt
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.model import encode_slices, new_model, patches, save
from training.world import COLOURS, SHAPES, SIZE, Scene, Thing, background, degrade, draw, some_things

LEARNING_RATE = 1.5e-3
PLACEHOLDER_IDS = dict.fromkeys(("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"), 0)


def thing_labels(first: Thing, second: Thing) -> list[int]:
    """What :class:`SliceHeads` is to say of a slice whose frames show these things."""
    return [number for thing in (first, second) for number in (SHAPES.index(thing.shape), list(COLOURS).index(thing.colour))]


def some_pairs(rng: random.Random, count: int) -> list[tuple[Thing, Thing]]:
    """What the two frames of slices show; mostly the same thing."""
    pairs = [some_things(rng, 2) for _ in range(count)]
    return [(first, first if rng.random() < 0.6 else second) for first, second in pairs]


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

    def loss(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, list[float]]:
        """Cross entropy, and the share of right names of each head. ``embeddings (n, 9, width)``, ``labels (n, 4)``."""
        outputs = [head(embeddings).transpose(1, 2) for head in self.heads]
        targets = labels[..., None].expand(-1, -1, embeddings.shape[1])
        losses = [functional.cross_entropy(output, targets[:, i]) for i, output in enumerate(outputs)]
        right = [round((output.argmax(1) == targets[:, i]).float().mean().item(), 2) for i, output in enumerate(outputs)]
        return torch.stack(losses).sum(), right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--decay", type=float, default=0.5, help="part of the steps, at the end, over which the learning rate falls")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, help="weights of an earlier warm-up")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng, noise = random.Random(args.seed), np.random.default_rng(args.seed)

    model = new_model(32, PLACEHOLDER_IDS)
    heads = SliceHeads(model.config.text_config.hidden_size)
    state = nn.ModuleDict({"visual": model.model.visual, "heads": heads})
    if args.resume:
        state.load_state_dict(torch.load(args.resume))
    parameters = list(state.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98))

    started = time.monotonic()
    for step in range(1, args.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / 50, (args.steps - step) / (args.decay * args.steps) + 0.02)
        frames, labels = some_slices(rng, noise, some_pairs(rng, args.batch))
        loss, right = heads.loss(encode_slices(model, patches(frames), deepstack_too=False)[0], torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step}  {time.monotonic() - started:.0f} s  loss {loss.item():.3f}  accuracy {right}", flush=True)
        if step % 100 == 0 or step == args.steps:
            save(state, args.out)


if __name__ == "__main__":
    main()
