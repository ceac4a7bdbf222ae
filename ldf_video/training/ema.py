"""Exponential moving average of weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of a module whose weights follow the module's slowly (Polyak averaging).

    Buffers are copied. The decay rises with the number of updates, so that the average forgets
    the initial weights early: min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move towards `module` after update number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)
