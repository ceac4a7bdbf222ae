"""The regularizer on a discriminator's slope, and what keeps its weight right.

Every discriminator here has one, as in the paper, whose is Roth's (2017), arXiv:1705.09367. It is
made for binary cross-entropy. A relativistic loss leaves D's common offset free: it drifts, and
Roth's weights, which go by the bare logit, then switch one side of the penalty off. There the error
of the pair takes their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldf_video.models.losses import roth_penalty

PENALTIES = ("roth", "pair", "r1r2")


@dataclass(frozen=True)
class RothConfig:
    """The regularizer and its weight over a training.

    Attributes:
        penalty: what |grad D|^2 is weighted by, the square of
            "roth": D's own error, 1 - sigmoid(D) on real pairs and sigmoid(D) on generated ones
                (Algorithm 1), for binary cross-entropy;
            "pair": its error on the pair, sigmoid(D(fake) - D(real)), on both, which is the slope
                of the relativistic loss as Roth's is that of the binary one;
            "r1r2": 1 (R1 and R2, as in R3GAN, arXiv:2501.05441).
        gamma: the weight at the start.
        gamma_floor: the weight at the end, as a share of that at the start.
        target: D's loss in nats under which the weight is raised beyond that schedule, so that D
            does not run away from its opponents.
        pressure_rate: how much it is raised, or lowered again, an update, as a share.
        pressure_limit: how many times the schedule it may become.
        interval: moves of D from one (lazy) penalty to the next, scaled up by as much.
    """

    gamma: float = 1.0
    gamma_floor: float = 0.2
    target: float = 0.4
    pressure_rate: float = 0.01
    pressure_limit: float = 100.0
    interval: int = 4
    penalty: str = "roth"

    def __post_init__(self) -> None:
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty {self.penalty!r}: expected {', '.join(PENALTIES)}")


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

    def is_due(self, move: int) -> bool:
        """Whether a move of D, counted from 0, computes the penalty."""
        return move % self.config.interval == 0

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
    ) -> tuple[Tensor, Tensor]:
        """The penalties of real and of generated inputs, scalars, in float32 under any autocast.

        On a GPU torch computes float32 convolutions in TF32, here too.

        Args:
            discriminator: from inputs to logits (B,).
            real: what D sees of the data, each (B, ...).
            fake: what D sees of its opponents, likewise.
        """
        with torch.autocast(real[0].device.type, enabled=False):
            of_real, of_fake = (
                [part.detach().float().requires_grad_() for part in inputs]
                for inputs in (real, fake)
            )
            high, low = discriminator(*of_real), discriminator(*of_fake)
            error_high, error_low = self._errors(high, low)
            return (
                roth_penalty(high, of_real, error=error_high),
                roth_penalty(low, of_fake, error=error_low),
            )

    def _errors(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """How wrong D is, by its logits of real and of generated inputs, (B,) each."""
        if self.config.penalty == "roth":
            return 1 - torch.sigmoid(real), torch.sigmoid(fake)
        if self.config.penalty == "pair":
            error = torch.sigmoid(fake - real)
            return error, error
        return torch.ones_like(real), torch.ones_like(fake)
