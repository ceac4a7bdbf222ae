"""The game of `--preset default`: what D wants, and what E and G want.

ALI's game in its relativistic form, reconstruction by pixels and by D's own features, and a
regularizer on D like Roth's.

The prior of a grid of latents is not N(0, I): neighbouring cells depend on each other, the top
model learns how, and G of independent cells is no frame, whatever its weights. A D that sees it
wins for free and drags E away from what reconstructs (docs/log.md, 2026-11-26). So the generated
pair's z is drawn from what the top model learns to sample: E's own latents of the data, with noise.
Only each cell's numbers are held to N(0, I). Arithmetic goes where it helps most: E and G learn to
reconstruct alone at first, then D joins, on a share of each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ldf_video.models.frame import FrameGame, every, pixel_loss
from ldf_video.models.game import Logs, Player, Tick
from ldf_video.models.grid import GridDiscriminator, GridModel
from ldf_video.models.losses import moment_penalty, relativistic_loss
from ldf_video.models.noise import Noise
from ldf_video.models.restraint import Restraint, Turn
from ldf_video.models.roth import RothConfig, as_roth


@dataclass(frozen=True)
class GridGameConfig:
    """Weights of the game.

    Attributes:
        reconstruction: weight of |x - G(E(x))| + squared (x - G(E(x)))^2, means over pixels in
            [-1, 1].
        squared: weight of the squared difference in it. Near 29 dB both differences weigh about the
            same, further on the absolute one weighs more (docs/log.md).
        features: weight of the mean absolute difference of D's features of x and of G(E(x)).
        moments: weight of the distance of the mean and covariance of a cell's numbers from those of
            the prior.
        latent_noise: largest standard deviation of the noise on E(x) in the pair and in the
            reconstruction; each frame has its own, uniform in [0, latent_noise]. A top model's
            latents are off by some tenths, and G is to make sharp frames of them (docs/log.md).
        game: weight of the game itself.
        game_start: share of the training's budget after which D joins.
        game_share: share of the batch that D sees.
        rest: D's loss in nats under which it sits the next update out.
        critic_rate: learning rate of D, as a share of that of E and G.
        roth: of the regularizer on D; its target is in nats, ln 2 being a D that cannot tell. It is
            weighted by the pair's error: the game leaves D's common offset free, and weights by
            D's own error may switch one side off.
    """

    reconstruction: float = 50.0
    squared: float = 10.0
    features: float = 10.0
    moments: float = 0.5
    latent_noise: float = 0.6
    game: float = 0.1
    game_start: float = 0.5
    game_share: float = 0.25
    rest: float = 0.3
    critic_rate: float = 0.3
    roth: RothConfig = field(default_factory=lambda: RothConfig(penalty="pair"))

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
        self.restraint = Restraint(config.roth, rest=config.rest)

    @property
    def players(self) -> Sequence[Player]:
        """E and G move first: D then judges the pairs that they made, without making them again."""
        return (
            Player("encoder_generator", self.encoder_generator, self.encoder_generator_loss),
            Player(
                "discriminator",
                [self.discriminator],
                self.discriminator_loss,
                rate=self.config.critic_rate,
                adam=True,
            ),
        )

    def kind(self, step: int, progress: float) -> Turn:
        """What D does: it joins late, and rests while it wins too easily."""
        return self.restraint.turn(plays=progress >= self.config.game_start)

    def pixel_loss(self, x: Tensor, target: Tensor) -> Tensor:
        """With the weight that squares have here."""
        return pixel_loss(x, target, squared=self.config.squared)

    def encoder_generator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """G undoes E, and once D plays, the two make it take generated pairs for inferred ones."""
        c, E, G = self.config, self.model.encoder, self.model.generator
        code = E(x)
        inferred = self._noised(code, tick.noise)
        reconstruction = G(inferred)
        pixels = self.pixel_loss(reconstruction, x)
        moments = moment_penalty(code.permute(0, 2, 3, 1).flatten(0, 2))  # a cell is an item
        loss = c.reconstruction * pixels + c.moments * moments
        logs = {"pixels": pixels, "moments": moments}
        if tick.kind.plays:
            few, weight = every(len(x), c.game_share, tick.noise.part)
            seen, z, generated = x[few], inferred[few], reconstruction[few]
            game, features = (weight * value for value in self._against(seen, z, generated))
            loss = loss + c.game * game + c.features * features
            logs |= {"encoder_generator": game, "features": features}
            tick.left["pairs"] = (seen, z.detach(), generated.detach())
            tick.left["weight"] = weight
        return loss, {name: value.detach() for name, value in logs.items()}

    def _against(self, x: Tensor, z: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        """What E and G lose against D, and how far reconstructions are from x in D's features."""
        D = self.discriminator
        with torch.no_grad():
            real = D.features(x)
        made = D.features(generated)
        logits = D.judge(torch.cat([made[-1], real[-1]]), torch.cat([z, z]))
        distances = [(a - b).abs().mean() for a, b in zip(made, real, strict=True)]
        return relativistic_loss(*logits.chunk(2)), torch.stack(distances).mean()

    def discriminator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """D scores the inferred pair above the generated one, within a bound on its slope.

        It sits out until E and G leave pairs for it.
        """
        del x
        if "pairs" not in tick.left:
            return torch.zeros(()), {}
        D = self.discriminator
        seen, z, generated = tick.left["pairs"]

        def judge() -> tuple[Tensor, Tensor]:
            real, fake = D(torch.cat([seen, generated]), torch.cat([z, z])).chunk(2)
            return real, fake

        return self.restraint.loss(
            judge,
            relativistic_loss,
            D,
            real=(seen, z),
            fake=(generated, z),
            tick=tick,
            weight=tick.left["weight"],
        )

    def after_update(self, logs: Logs) -> None:
        """Hold D back by how it fared."""
        self.restraint.note(logs)

    def _noised(self, z: Tensor, noise: Noise) -> Tensor:
        level = self.config.latent_noise * noise.uniform(len(z), 1, 1, 1, device=z.device)
        return z + level * noise.normal(*z.shape, device=z.device)
