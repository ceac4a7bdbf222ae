"""Muon: steps whose matrices are orthogonal, for the hidden layers' weights.

Adam's steps lie mostly along few directions of a weight; Muon's have the same length along all of
them, and a frame model or a flow learns sooner (docs/log.md). Jordan et al. (2024),
"Muon: An optimizer for hidden layers in neural networks". torch's own takes nothing but matrices
and computes in bfloat16, which processors without it emulate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

RATE = 20.0
"""Muon's learning rate, as a multiple of Adam's beside it."""
MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Newton and Schulz's iteration, Jordan's: singular values from 0.003 on come near 1."""
NARROWEST = 16
"""Rows and columns that a weight is to have: layers that read or make a few numbers are Adam's.

That goes by shape alone, so that a flow's learned places, where there are so many, count as hidden.
"""


def is_hidden(weight: Tensor) -> bool:
    """Whether a weight is a hidden layer's: a matrix or convolution that is not narrow."""
    return weight.ndim >= 2 and min(len(weight), weight[0].numel()) >= NARROWEST


def orthogonalised(matrix: Tensor) -> Tensor:
    """Near the nearest semi-orthogonal matrix: the singular values between 0.7 and 1.2.

    Each iteration multiplies the matrix by a polynomial of its Gram matrix. These are gathered on
    the Gram matrix alone, which is small and square: a third of the time, where the other is long.

    Products must be of float32: in bfloat16 gradients of low rank diverge this way.

    Args:
        matrix: (rows, columns), float32 or float64.
    """
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    if tall := len(x) > x.shape[1]:
        x = x.mT
    gram = x @ x.mT
    product = identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        factor = a * identity + torch.addmm(gram, gram, gram, beta=b, alpha=c)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Moves hidden layers' weights by their orthogonalised momentum, all others as Adam does.

    Convolutions (out, in, rows, columns) count as matrices (out, in * rows * columns), transposed
    ones as (in, out * rows * columns). The state of a hidden layer is half as large as Adam's.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float]
    ) -> None:
        """Args: what it moves; Adam's rate, to which Muon's is proportional, and its decays."""
        given = list(parameters)
        self._adam = torch.optim.Adam(given, lr=lr, betas=betas, fused=True)
        groups = [
            {"params": [p for p in given if is_hidden(p) == hidden], "hidden": hidden}
            for hidden in (False, True)
        ]
        super().__init__(groups, self._adam.defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all weights that have a gradient. The rate may be a tensor on their device."""
        assert closure is None, "gradients are there before the step"
        self._adam.state = self.state
        self._adam.param_groups = [group for group in self.param_groups if not group["hidden"]]
        self._adam.step()
        for group in self.param_groups:
            for weight in group["params"]:
                if group["hidden"] and weight.grad is not None:
                    self._move(weight, group["lr"])
        return None

    def _move(self, weight: Tensor, rate: float | Tensor) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        ahead = weight.grad.lerp(momentum, MOMENTUM)  # Nesterov's
        step = orthogonalised(ahead.flatten(1)).reshape(weight.shape)
        aspect = len(weight) / weight[0].numel()
        weight.sub_(step * (rate * RATE * max(1.0, aspect) ** 0.5))
