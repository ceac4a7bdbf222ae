"""What the games by binary cross-entropy share: their config, and a D that waits for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ldf_video.models.game import Logs, Tick
from ldf_video.models.losses import binary_loss
from ldf_video.models.roth import RothConfig, RothRegularizer, as_roth

TARGET = 0.8
"""Loss of D in nats that the regularizer's weight aims at; 2 ln 2 is a D that cannot tell."""


@dataclass(frozen=True)
class GanConfig:
    """Weights of a game of G against D by binary cross-entropy.

    Attributes:
        roth: of the regularizer on D.
        rest: D's loss in nats under which D rests until the others have caught up.
    """

    roth: RothConfig = field(
        default_factory=lambda: RothConfig(gamma=2.0, gamma_floor=0.1, target=TARGET)
    )
    rest: float = 0.5 * TARGET

    def __post_init__(self) -> None:
        object.__setattr__(self, "roth", as_roth(self.roth))


class Restraint(nn.Module):
    """What keeps a D by binary cross-entropy from running away: Roth's regularizer, and rest.

    Roth's penalty is weighted by D's own error, so that it vanishes for a D that is sure of
    everything: no weight brings such a D back. So D sits updates out while its loss is low, as in
    Larsen et al. (2016), arXiv:1512.09300.

    The buffer `resting` says whether D sits the next update out.
    """

    resting: Tensor

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.least_loss = config.rest
        self.roth = RothRegularizer(config.roth)
        self.register_buffer("resting", torch.zeros((), dtype=torch.bool))

    def loss(
        self,
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        tick: Tick,
    ) -> tuple[Tensor, Logs]:
        """What D minimises, and what to log; without a gradient while D rests.

        Args:
            discriminator: from inputs to logits (B,).
            real: what it is to score high, each (B, ...).
            fake: what it is to score low.
            tick: of the update.
        """
        moves = not bool(self.resting)
        with torch.set_grad_enabled(moves):
            loss = binary_loss(discriminator(*real), discriminator(*fake))
        logs = {
            "discriminator": loss.detach(),
            "pressure": self.roth.pressure.clone(),
            "resting": self.resting.float(),
        }
        if moves and self.roth.is_due(tick.step):
            penalty = self.roth.penalty(discriminator, real=real, fake=fake)
            loss = loss + self.roth.weight(tick.progress) * penalty
            logs["roth"] = penalty.detach()
        return loss, logs

    @torch.no_grad()
    def note(self, logs: Logs) -> None:
        """Decide by an update's logs about the next one."""
        self.roth.press(logs["discriminator"])
        self.resting.copy_(logs["discriminator"] < self.least_loss)
