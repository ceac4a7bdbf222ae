"""What the games by binary cross-entropy share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ldf_video.models.game import Game, Logs, Tick
from ldf_video.models.losses import binary_loss
from ldf_video.models.restraint import Restraint, Turn
from ldf_video.models.roth import RothConfig, as_roth

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


class GanGame(Game):
    """A game in which D, under restraint, plays by binary cross-entropy."""

    restraint: Restraint

    def kind(self, step: int, progress: float) -> Turn:
        """What D does; it plays from the first update on."""
        return self.restraint.turn()

    def after_update(self, logs: Logs) -> None:
        """Hold D back by how it fared."""
        self.restraint.note(logs)

    def contest(
        self,
        discriminator: Callable[..., Tensor],
        *,
        real: Sequence[Tensor],
        fake: Sequence[Tensor],
        tick: Tick,
    ) -> tuple[Tensor, Logs]:
        """What D minimises: to score `real` high and `fake` low, within Roth's bound on its slope.

        Args:
            discriminator: from inputs to logits (B,).
            real: what it is to score high, each (B, ...).
            fake: what it is to score low.
            tick: of the update.
        """
        return self.restraint.loss(
            lambda: (discriminator(*real), discriminator(*fake)),
            binary_loss,
            discriminator,
            real=real,
            fake=fake,
            tick=tick,
        )
