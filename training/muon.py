"""Muon (Jordan et al., 2024): momentum whose every update of a matrix is made orthogonal. Half the steps of AdamW here, for a tenth more
work per step.

``torch.optim.Muon`` does its matrix products in bfloat16, which CPUs without matrix units are slow at; here they stay in single precision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
_A, _B, _C = 3.4445, -4.7750, 2.0315  # quintic whose iteration drives singular values towards one


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Roughly the nearest semi-orthogonal matrices, by Newton-Schulz iteration. Shape ``(..., rows, columns)``."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    result = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = result @ result.mT
        result = _A * result + (_B * square + _C * square @ square) @ result
    return result.mT if tall else result


class Muon(torch.optim.Optimizer):
    """For matrices only; embeddings and norms belong to AdamW. Matrices of one shape are updated together: a GPU likes few large products.

    Args:
        lr: AdamW's scale: an update's root mean square is ``0.2 * lr``, whatever the matrix's shape.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, weight_decay: float = 0.01) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape].append(matrix)
            for shape, matrices in alike.items():
                gradients = [matrix.grad for matrix in matrices]
                momenta = [self.state[matrix].setdefault("momentum", torch.zeros_like(matrix)) for matrix in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
                updates = orthogonal(torch.stack(torch._foreach_lerp(gradients, momenta, MOMENTUM)))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(updates.unbind()), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)
