"""What the games by binary cross-entropy share: their config, and a D that waits for the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ldf_video.models.game import Logs
from ldf_video.models.roth import RothConfig, RothRegularizer

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
        if isinstance(self.roth, dict):  # as config.json has it
            object.__setattr__(self, "roth", RothConfig(**self.roth))


class Rest(nn.Module):
    """Keeps a D from moving while it wins too easily.

    Roth's penalty is weighted by D's own error, so that it vanishes for a D that is sure of
    everything: no weight brings such a D back. Larsen et al. (2016), arXiv:1512.09300, stop D's
    updates likewise while its loss is low.

    The buffer `resting` says whether D sits the next update out.
    """

    resting: Tensor

    def __init__(self, least_loss: float) -> None:
        super().__init__()
        self.least_loss = least_loss
        self.register_buffer("resting", torch.zeros((), dtype=torch.bool))

    def __bool__(self) -> bool:
        return bool(self.resting)

    @torch.no_grad()
    def note(self, discriminator_loss: Tensor) -> None:
        """Decide by the loss of an update about the next one."""
        self.resting.copy_(discriminator_loss < self.least_loss)


def discriminator_logs(loss: Tensor, roth: RothRegularizer, rest: Rest) -> Logs:
    """What D's side logs: its loss, its regularizer's pressure, and whether it rested."""
    return {
        "discriminator": loss.detach(),
        "pressure": roth.pressure.clone(),
        "resting": rest.resting.float(),
    }
