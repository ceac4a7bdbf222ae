"""The game of `--preset paper`: ALI with binary cross-entropy, as the paper plays it.

Beside ALI's game there are the paper's reconstruction and shortcut reconstruction, and Roth's
regularizer over both inputs of D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldf_video.models.ali import AliDiscriminator, AliModel, Shortcut
from ldf_video.models.frame import FrameGame, every
from ldf_video.models.game import Logs, Tick
from ldf_video.models.gan import GanConfig, GanGame
from ldf_video.models.layers import recompute_statistics
from ldf_video.models.losses import binary_loss, moment_penalty
from ldf_video.models.noise import Noise
from ldf_video.models.restraint import Restraint


@dataclass(frozen=True)
class AliGameConfig(GanConfig):
    """Weights of the game, beside those of any by binary cross-entropy.

    Attributes:
        reconstruction: weight of |x - G(E(x))| + (x - G(E(x)))^2, means over pixels in [-1, 1].
        shortcut: weight of the same around z, through E's last hidden layer.
        shortcut_share: share of the batch on which the shortcut is computed.
        moments: weight of the distance of the latents' mean and covariance from those of the prior.
        least_std: standard deviation that E's Gaussian has at least, added to its own as
            independent noise is: reconstruction drives that to 0, and D then tells thin latents
            from N(0, I) at a glance.
    """

    reconstruction: float = 20.0
    shortcut: float = 20.0
    shortcut_share: float = 0.25
    moments: float = 0.5
    least_std: float = 0.2


class AliGame(GanGame, FrameGame):
    """E and G against D, as `FrameGame` says. E's latents are Gaussian in the game."""

    model: AliModel
    discriminator: AliDiscriminator

    def __init__(self, model: AliModel, config: AliGameConfig) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.discriminator = AliDiscriminator(model.config)
        self.shortcut = Shortcut(model.config)
        self.restraint = Restraint(config.roth, rest=config.rest)

    @property
    def encoder_generator(self) -> list[nn.Module]:
        """All that the side of E and G moves: the shortcut's own layer too."""
        return [self.model, self.shortcut]

    def discriminator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """D scores inferred pairs high and generated ones low, within Roth's bound on its slope."""
        with torch.no_grad():
            inferred, _ = self._infer(self.model.encoder.hidden(x), tick.noise)
            z = tick.noise.normal(*inferred.shape, device=x.device)
            generated = self.model.generator(z)
        return self.contest(self.discriminator, real=(x, inferred), fake=(generated, z), tick=tick)

    def encoder_generator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """E and G make D exchange the two kinds of pair, and G undo E."""
        c, D, G = self.config, self.discriminator, self.model.generator
        hidden = self.model.encoder.hidden(x)
        inferred, std = self._infer(hidden, tick.noise)
        z = tick.noise.normal(*inferred.shape, device=x.device)
        game = binary_loss(D(G(z), z), D(x, inferred))
        pixels = self.pixel_loss(G(inferred), x)
        few, weight = every(len(x), c.shortcut_share, tick.noise.part)
        shortcut = weight * self.pixel_loss(self.shortcut(hidden[few], G), x[few])
        moments = moment_penalty(inferred)
        loss = game + c.reconstruction * pixels + c.shortcut * shortcut + c.moments * moments
        logs = {
            "encoder_generator": game,
            "pixels": pixels,
            "shortcut": shortcut,
            "moments": moments,
            "latent_std": std.mean(),
        }
        return loss, {name: value.detach() for name, value in logs.items()}

    def calibrate(self, model: AliModel, batch: Tensor) -> None:
        """Give averaged weights the batch statistics that they have themselves.

        G's are those of decoding latents of real frames, which is what it will be used for.
        """
        recompute_statistics(model.encoder, batch)
        with torch.no_grad():
            latents = model.encoder(batch)
        recompute_statistics(model.generator, latents)

    def _infer(self, hidden: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """A draw from E's Gaussian, and its standard deviation."""
        mean, std = self.model.encoder.gaussian(hidden)
        std = (std.square() + self.config.least_std**2).sqrt()  # a thin one still has a gradient
        return mean + std * noise.normal(*mean.shape, device=mean.device), std
