"""The game of `--preset default`: what D wants, and what E and G want.

ALI's game in its relativistic form, reconstruction by pixels and by D's own features, the paper's
shortcut reconstruction, and Roth's regularizer on D.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldf_video.models.frame import FrameGame, every, pixel_loss
from ldf_video.models.game import Logs, Tick
from ldf_video.models.grid import GridDiscriminator, GridModel
from ldf_video.models.losses import moment_penalty, relativistic_loss
from ldf_video.models.noise import Noise
from ldf_video.models.roth import RothConfig, RothRegularizer, as_roth


@dataclass(frozen=True)
class GridGameConfig:
    """Weights of the game.

    Attributes:
        reconstruction: weight of |x - G(E(x))| + (x - G(E(x)))^2, means over pixels in [-1, 1].
        features: weight of the mean absolute difference of D's features of x and of G(E(x)).
        shortcut: weight of the reconstruction around z, through E's last hidden layer.
        shortcut_share: share of the batch on which the shortcut is computed.
        moments: weight of the distance of E(x)'s mean and covariance from those of the prior.
        latent_noise: standard deviation of the noise on E(x) in the pair and in the reconstruction.
        roth: of the regularizer on D; its target is in nats, ln 2 being a D that cannot tell.
    """

    reconstruction: float = 20.0
    features: float = 5.0
    shortcut: float = 5.0
    shortcut_share: float = 0.25
    moments: float = 0.5
    latent_noise: float = 0.1
    roth: RothConfig = field(default_factory=RothConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "roth", as_roth(self.roth))


class GridGame(FrameGame):
    """E and G against D, as `FrameGame` says; D's loss is ln 2 where it cannot tell."""

    model: GridModel
    discriminator: GridDiscriminator

    def __init__(self, model: GridModel, config: GridGameConfig) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.discriminator = GridDiscriminator(model.config)
        self.roth = RothRegularizer(config.roth)

    def discriminator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """D scores the inferred pair above the generated one, within Roth's bound on its slope."""
        with torch.no_grad():
            inferred = self._noised(self.model.encoder(x), tick.noise)
            z = tick.noise.normal(*inferred.shape, device=x.device)
            generated = self.model.generator(z)
        D = self.discriminator
        loss = relativistic_loss(D(x, inferred), D(generated, z))
        logs = {"discriminator": loss.detach(), "pressure": self.roth.pressure.clone()}
        if self.roth.is_due(tick.step):
            penalty = self.roth.penalty(D, real=(x, inferred), fake=(generated, z))
            loss = loss + self.roth.weight(tick.progress) * penalty
            logs["roth"] = penalty.detach()
        return loss, logs

    def after_update(self, logs: Logs) -> None:
        """Let the regularizer answer to how D fared."""
        self.roth.press(logs["discriminator"])

    def encoder_generator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """E and G make D take the generated pair for the inferred one, and G undo E."""
        c, D = self.config, self.discriminator
        hidden = self.model.encoder.hidden(x)
        code = self.model.encoder.head(hidden)
        inferred = self._noised(code, tick.noise)
        z = tick.noise.normal(*code.shape, device=x.device)
        with torch.no_grad():
            real_features = D.features(x)
        game = relativistic_loss(
            D(self.model.generator(z), z), D.judge(real_features[-1], inferred)
        )
        reconstruction = self.model.generator(inferred)
        pixels = pixel_loss(reconstruction, x)
        pairs = zip(D.features(reconstruction), real_features, strict=True)
        features = torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
        few = every(hidden, c.shortcut_share), every(x, c.shortcut_share)
        shortcut = pixel_loss(self.model.generator.from_hidden(few[0]), few[1])
        moments = moment_penalty(code)
        loss = (
            game
            + c.reconstruction * pixels
            + c.features * features
            + c.shortcut * shortcut
            + c.moments * moments
        )
        logs = {
            "encoder_generator": game,
            "pixels": pixels,
            "features": features,
            "shortcut": shortcut,
            "moments": moments,
        }
        return loss, {name: value.detach() for name, value in logs.items()}

    def _noised(self, z: Tensor, noise: Noise) -> Tensor:
        return z + self.config.latent_noise * noise.normal(*z.shape, device=z.device)
