"""Muon (Jordan et al., 2024): momentum whose every update of a matrix is made orthogonal. Half the steps of AdamW here, for a tenth more
work a step.

``torch.optim.Muon`` does its matrix products in bfloat16, which CPUs without matrix units are slow at; here they stay in single precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_A, _B, _C = 3.4445, -4.7750, 2.0315  # quintic whose iteration drives singular values towards one


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Roughly the nearest semi-orthogonal matrix, by Newton-Schulz iteration."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    result = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = result @ result.T
        result = _A * result + (_B * square + _C * square @ square) @ result
    return result.T if matrix.shape[0] > matrix.shape[1] else result


class Muon(torch.optim.Optimizer):
    """For matrices only; embeddings and norms belong to AdamW.

    Args:
        lr: AdamW's scale: an update's root mean square is ``0.2 * lr``, whatever the matrix's shape.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float = 0.01) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                momentum = state.setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)
