"""GRPO's objective (Shao et al., 2024): advantages of trajectories, the clipped loss of tokens, and the KL estimate; the learning rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.config import Advantages

_EPSILON: Final = 1e-6


def advantages(returns: Sequence[float], groups: Sequence[int], kind: Advantages) -> list[float]:
    """How much better each return is than those of its group, in standard deviations.

    Args:
        groups: number of each rollout's question.
        kind: ``"question"``, or ``"batch"``: all are one group.
    """
    members: dict[int, list[float]] = defaultdict(list)
    keys = groups if kind == "question" else [0] * len(groups)
    for key, value in zip(keys, returns, strict=True):
        members[key].append(value)
    spread = {key: (float(np.mean(values)), float(np.std(values))) for key, values in members.items()}
    return [(value - spread[key][0]) / (spread[key][1] + _EPSILON) for key, value in zip(keys, returns, strict=True)]


def schedule(done: float, warmup: float) -> float:
    """The learning rate as a share of the highest: warm-up, then a cosine, where ``done`` goes from 0 to 1."""
    return (min(1.0, done / warmup) if warmup else 1.0) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def policy_loss(now: Tensor, old: Tensor, advantage: Tensor, clip: float, dual_clip: float) -> Tensor:
    """The clipped policy gradient loss of each token, with dual clipping (Ye et al., 2020) where the advantage is negative."""
    ratio = (now - old).exp()
    clipped = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))
    return torch.where(advantage < 0, torch.minimum(clipped, -advantage * dual_clip), clipped)


def kl_k3(now: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3 estimate of the KL divergence from the reference, of each token: never negative, unbiased."""
    log_ratio = reference - now
    return log_ratio.exp() - log_ratio - 1
