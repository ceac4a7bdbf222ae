"""The third game: G learns to decode what a top model makes, and E stays as it is.

The lower level's own game pairs a frame x with E(x), and G(z) with a z that is E's latent with
noise. The hierarchical game of the paper (section 2.2) takes z from the level above. Here it does:
z is what a trained top model rolled forward, and lies in a store like any latents. No gradient
crosses the levels, and none moves E, so that stores and top models stay valid.

G begins as a denoiser whose latents are decoded by way of frames, G(E(G(z))). It learns to do
that at once: from a teacher, the frame model as it was; from D, which tells (x, E(x)) from
(G(z), z); and from neighbouring frames, which are to differ only where the teacher's do. A share of
the loss keeps what E makes of real frames coming back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ldf_video.models.frame import every
from ldf_video.models.game import Logs, Noise, Player, Tick
from ldf_video.models.gan import RothConfig
from ldf_video.models.grid import GridModel, GridWeights, PairGame
from ldf_video.models.losses import relativistic_loss

STILL = 8 / 127.5
"""Difference in any colour under which a pixel stands still, of pixels in [-1, 1]: 8 levels."""

RolledBatch = tuple[Tensor, Tensor]
"""Frames x (B, 3, H, W), and latents z (B, 2, C, h, w) of neighbouring frames that were rolled."""


@dataclass(frozen=True)
class RolledConfig(GridWeights):
    """Weights of the game, of which some that any such game has differ; E does not move.

    Attributes:
        teacher: weight of the distance between G(z) and the teacher's frame of z, the same as that
            of a reconstruction.
        still: weight of the mean change of G(z) from one frame to the next where the teacher's
            frames stand still.
        pair_noise: standard deviation of the noise on all latents that D sees. What a top model
            makes is off by less, and would give itself away whatever G does. `latent_noise` is that
            of the reconstruction alone.
    """

    reconstruction: float = 100.0
    teacher: float = 50.0
    still: float = 200.0
    latent_noise: float = 0.3
    pair_noise: float = 0.6
    critic_rate: float = 1.0
    roth: RothConfig = field(default_factory=lambda: RothConfig(penalty="r1r2"))


class RolledGame(PairGame):
    """G against D, on a `RolledBatch`."""

    config: RolledConfig

    def __init__(self, model: GridModel, config: RolledConfig) -> None:
        """Make the game of a model that decodes at once; `teach` gives it a teacher."""
        super().__init__(model, config)
        self.teacher = GridModel(replace(model.config, refines=True))

    def teach(self) -> None:
        """Let the model as it stands be the teacher."""
        self.teacher.load_state_dict(self.model.state_dict())

    @property
    def players(self) -> Sequence[Player]:
        """G moves first."""
        G, D, rate = self.model.generator, self.discriminator, self.config.critic_rate
        return (
            Player("generator", [G], self.generator_loss),
            Player("discriminator", [D], self.discriminator_loss, rate=rate, adam=True),
        )

    def generator_loss(self, batch: RolledBatch, tick: Tick) -> tuple[Tensor, Logs]:
        """What G minimises.

        With z, z' of neighbouring frames, the teacher's T(z) = G(E(G(z))) of weights that stay, and
        n noise:

            reconstruction * d(G(E(x) + n), x) + teacher * d(G(z), T(z))
            + still * |G(z') - G(z)| where |T(z') - T(z)| is less than `STILL`
            + game * softplus(D(x, E(x) + n) - D(G(z), z + n))
            + features * |D_l(x) - D_l(G(E(x) + n))|

        where d(a, b) = |a - b| + squared * (a - b)^2, and the last two lines are there once D
        plays.
        """
        c, (x, pairs) = self.config, batch
        z = pairs.flatten(0, 1)
        with torch.no_grad():
            code = self.model.encoder(x)
            target = self.teacher.decode(z).clamp(-1, 1)
        level = c.latent_noise * tick.noise.uniform(len(x), 1, 1, 1, device=x.device)
        noisy = code + level * tick.noise.normal(*code.shape, device=x.device)
        reconstruction, made = self.model.generator(torch.cat([noisy, z])).split([len(x), len(z)])
        pixels, distance = self.pixel_loss(reconstruction, x), self.pixel_loss(made, target)
        flicker = restless(made.unflatten(0, (-1, 2)), target.unflatten(0, (-1, 2)))
        loss = c.reconstruction * pixels + c.teacher * distance + c.still * flicker
        logs = {"pixels": pixels, "teacher": distance, "flicker": flicker}
        if tick.kind.plays:
            few, weight = every(len(x), c.game_share, tick.noise.part)
            inferred, generated = (x, code), (made[::2], pairs[:, 0])
            shown = [self._shown(pair, few, tick.noise) for pair in (inferred, generated)]
            game = weight * relativistic_loss(self.discriminator(*shown[1]), self._scored(shown[0]))
            features = weight * self._feature_distance(reconstruction[few], x[few])
            loss = loss + c.game * game + c.features * features
            logs |= {"generator": game, "features": features}
            tick.passed_on["pairs"] = [[part.detach() for part in pair] for pair in shown]
            tick.passed_on["weight"] = weight
        return loss, {name: value.detach() for name, value in logs.items()}

    def _shown(
        self, pairs: tuple[Tensor, Tensor], few: slice, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """A few pairs as D sees them; noise is drawn for all, as parts may have unlike few."""
        frames, z = pairs
        noisy = z + self.config.pair_noise * noise.normal(*z.shape, device=z.device)
        return frames[few], noisy[few]

    @torch.no_grad()
    def _scored(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        logits: Tensor = self.discriminator(*pair)
        return logits

    def _feature_distance(self, made: Tensor, x: Tensor) -> Tensor:
        """How far frames are from x in D's features at each depth."""
        D = self.discriminator
        with torch.no_grad():
            real = D.features(x)
        distances = [(a - b).abs().mean() for a, b in zip(D.features(made), real, strict=True)]
        return torch.stack(distances).mean()


def restless(frames: Tensor, standard: Tensor) -> Tensor:
    """How much moves in pairs of frames that should not, a scalar, of pixels in [-1, 1].

    Args:
        frames: neighbouring ones, (B, 2, 3, H, W).
        standard: others, likewise: a pixel stands still where all its colours change by less than
            `STILL` there.

    Returns:
        Mean absolute change over all pixels; one that does not stand still counts as 0.
    """
    still = (standard[:, 1] - standard[:, 0]).abs().amax(1, keepdim=True) < STILL
    return ((frames[:, 1] - frames[:, 0]).abs() * still).mean()
