"""What the plain GANs share: the mlp top model and the joint baseline."""

from __future__ import annotations

from dataclasses import dataclass, field

from ldf_video.models.roth import RothConfig


@dataclass(frozen=True)
class GanConfig:
    """Weights of a game of G against D by binary cross-entropy.

    Attributes:
        roth: of the regularizer on D; its target is in nats, 2 ln 2 being a D that cannot tell.
    """

    roth: RothConfig = field(
        default_factory=lambda: RothConfig(gamma=2.0, gamma_floor=0.1, target=0.8)
    )

    def __post_init__(self) -> None:
        if isinstance(self.roth, dict):  # as config.json has it
            object.__setattr__(self, "roth", RothConfig(**self.roth))
