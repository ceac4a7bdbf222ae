"""The frame model's two-player game: what D wants, and what E and G want.

ALI's game in its relativistic form, reconstruction by pixels and by D's own features, the paper's
shortcut reconstruction, and Roth's regularizer on D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldf_video.models.frame import Discriminator, FrameConfig, FrameModel
from ldf_video.models.losses import moment_penalty, relativistic_loss, roth_penalty

Logs = dict[str, Tensor]


@dataclass(frozen=True)
class FrameGameConfig:
    """Weights of the game.

    Attributes:
        reconstruction: weight of |x - G(E(x))| + (x - G(E(x)))^2, means over pixels in [-1, 1].
        features: weight of the mean absolute difference of D's features of x and of G(E(x)).
        shortcut: weight of the reconstruction around z, through E's last hidden layer.
        shortcut_share: share of the batch on which the shortcut is computed.
        moments: weight of the distance of E(x)'s mean and covariance from those of the prior.
        latent_noise: standard deviation of the noise on E(x) in the pair and in the reconstruction.
        gamma: Roth's weight at the start.
        gamma_floor: Roth's weight at the end, as a share of the start.
        target: D's loss in nats under which Roth's weight is raised beyond that schedule, so that D
            does not run away from E and G; ln 2 is a D that cannot tell the pairs apart.
        pressure_rate: how much it is raised, or lowered again, an update, as a share.
        pressure_limit: how many times the schedule it may become.
        penalty_interval: updates from one (lazy) penalty to the next, scaled up by as much.
    """

    reconstruction: float = 20.0
    features: float = 5.0
    shortcut: float = 5.0
    shortcut_share: float = 0.25
    moments: float = 0.5
    latent_noise: float = 0.1
    gamma: float = 1.0
    gamma_floor: float = 0.2
    target: float = 0.4
    pressure_rate: float = 0.01
    pressure_limit: float = 100.0
    penalty_interval: int = 4


class FrameGame(nn.Module):
    """E and G against D.

    Each loss takes frames (B, 3, H, W) in [-1, 1] and the source of this update's noise, and
    returns a scalar and what to log; the trainer lets gradients reach one player's weights only.

    The buffer `pressure` is the factor by which Roth's weight stands above its schedule.
    """

    pressure: Tensor

    def __init__(self, model: FrameModel, config: FrameGameConfig) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.discriminator = Discriminator(model.config)
        self.register_buffer("pressure", torch.ones(()))

    def discriminator_loss(
        self, x: Tensor, *, noise: torch.Generator, step: int, progress: float
    ) -> tuple[Tensor, Logs]:
        """D scores the inferred pair above the generated one, within Roth's bound on its slope."""
        with torch.no_grad():
            inferred = self._noised(self.model.encoder(x), noise)
            z = _normal(inferred.shape, noise, x.device)
            generated = self.model.generator(z)
        loss = relativistic_loss(self.discriminator(x, inferred), self.discriminator(generated, z))
        self._press(loss.detach())
        logs = {"discriminator": loss.detach(), "pressure": self.pressure.clone()}
        if step % self.config.penalty_interval == 0:
            penalty = self._penalty(x, inferred, generated, z)
            gamma = self._gamma(progress) * self.pressure
            loss = loss + 0.5 * gamma * self.config.penalty_interval * penalty
            logs["roth"] = penalty.detach()
        return loss, logs

    def encoder_generator_loss(self, x: Tensor, *, noise: torch.Generator) -> tuple[Tensor, Logs]:
        """E and G make D take the generated pair for the inferred one, and G undo E."""
        c, D = self.config, self.discriminator
        hidden = self.model.encoder.hidden(x)
        code = self.model.encoder.head(hidden)
        inferred = self._noised(code, noise)
        z = _normal(code.shape, noise, x.device)
        with torch.no_grad():
            real_features = D.features(x)
        game = relativistic_loss(
            D(self.model.generator(z), z), D.judge(real_features[-1], inferred)
        )
        reconstruction = self.model.generator(inferred)
        pixels = _pixel_loss(reconstruction, x)
        pairs = zip(D.features(reconstruction), real_features, strict=True)
        features = torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
        few = max(1, round(c.shortcut_share * len(x)))
        shortcut = _pixel_loss(self.model.generator.from_hidden(hidden[:few]), x[:few])
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

    def _noised(self, z: Tensor, noise: torch.Generator) -> Tensor:
        return z + self.config.latent_noise * _normal(z.shape, noise, z.device)

    def _gamma(self, progress: float) -> float:
        """Roth's weight by schedule, decayed geometrically to its floor."""
        return float(self.config.gamma * self.config.gamma_floor**progress)

    @torch.no_grad()
    def _press(self, loss: Tensor) -> None:
        """Raise the pressure on a D that is winning, lower it on one that is not."""
        c = self.config
        rate = c.pressure_rate * torch.sign(c.target - loss)
        self.pressure.mul_(torch.exp(rate)).clamp_(1.0, c.pressure_limit)

    def _penalty(self, x: Tensor, inferred: Tensor, generated: Tensor, z: Tensor) -> Tensor:
        """Roth's penalty of both kinds of pair, in float32 whatever the autocast."""
        total = x.new_zeros(())
        with torch.autocast(x.device.type, enabled=False):
            for pair, real in (((x, inferred), True), ((generated, z), False)):
                inputs = [part.detach().float().requires_grad_() for part in pair]
                total = total + roth_penalty(self.discriminator(*inputs), inputs, real=real)
        return total


def _pixel_loss(x: Tensor, target: Tensor) -> Tensor:
    difference = x.float() - target
    return difference.abs().mean() + difference.square().mean()


def _normal(shape: torch.Size, noise: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal noise, drawn on the generator's device, so that it is the same everywhere."""
    return torch.randn(shape, generator=noise, device=noise.device).to(device)


def build_frame_game(config: FrameConfig, game: FrameGameConfig) -> FrameGame:
    """A fresh frame model with its discriminator, initialised from torch's global generator."""
    return FrameGame(FrameModel(config), game)
