"""Roth's regularizer on a discriminator, and what keeps its weight right.

Roth et al. (2017), arXiv:1705.09367. Every discriminator here has it, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldf_video.models.losses import roth_penalty


@dataclass(frozen=True)
class RothConfig:
    """The weight of the regularizer over a training.

    Attributes:
        gamma: the weight at the start.
        gamma_floor: the weight at the end, as a share of that at the start.
        target: D's loss in nats under which the weight is raised beyond that schedule, so that D
            does not run away from its opponents.
        pressure_rate: how much it is raised, or lowered again, an update, as a share.
        pressure_limit: how many times the schedule it may become.
        interval: updates from one (lazy) penalty to the next, scaled up by as much.
    """

    gamma: float = 1.0
    gamma_floor: float = 0.2
    target: float = 0.4
    pressure_rate: float = 0.01
    pressure_limit: float = 100.0
    interval: int = 4


def as_roth(config: RothConfig | Mapping[str, Any]) -> RothConfig:
    """A config, also from what config.json has in its place."""
    return config if isinstance(config, RothConfig) else RothConfig(**config)


class RothRegularizer(nn.Module):
    """The buffer `pressure` is the factor by which the weight stands above its schedule."""

    pressure: Tensor

    def __init__(self, config: RothConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("pressure", torch.ones(()))

    def is_due(self, step: int) -> bool:
        """Whether an update computes the penalty."""
        return step % self.config.interval == 0

    def weight(self, progress: float | Tensor) -> Tensor:
        """What the penalty of one update is multiplied by, at `progress` in [0, 1], a scalar."""
        c = self.config
        scheduled = 0.5 * c.interval * c.gamma * c.gamma_floor**progress
        if isinstance(scheduled, Tensor):
            scheduled = scheduled.to(self.pressure)
        return scheduled * self.pressure

    @torch.no_grad()
    def press(self, discriminator_loss: Tensor) -> None:
        """Raise the pressure on a D that is winning, lower it on one that is not."""
        c = self.config
        rate = c.pressure_rate * torch.sign(c.target - discriminator_loss.to(self.pressure))
        self.pressure.mul_(torch.exp(rate)).clamp_(1.0, c.pressure_limit)

    def penalty(
        self,
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
    ) -> Tensor:
        """The penalty of both kinds of input, a scalar, in float32 whatever the autocast.

        On a GPU torch computes float32 convolutions in TF32, here too.

        Args:
            discriminator: from inputs to logits (B,).
            real: what D sees of the data, each (B, ...).
            fake: what D sees of its opponents.
        """
        total = real[0].new_zeros((), dtype=torch.float32)
        with torch.autocast(real[0].device.type, enabled=False):
            for inputs, is_real in ((real, True), (fake, False)):
                seen = [part.detach().float().requires_grad_() for part in inputs]
                total = total + roth_penalty(discriminator(*seen), seen, real=is_real)
        return total
