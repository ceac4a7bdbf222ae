"""The frame model of `--preset default`, with latents on a small grid, and its game.

In one sentence: a denoising autoencoder (E and G) with an adversarial loss and a loss in D's own
features, whose generated pairs are made of E's noisy latents.

The networks work at half the frame's resolution and below: 2 x 2 pixels enter and leave as
channels, so that most arithmetic runs over many channels at few places, where small hardware is
quickest. Beside E and G stands a linear map between pixels and latents, which soon learns what
principal components would give; the networks learn the rest (docs/log.md).

The game is that of adversarially learned inference (Dumoulin et al. 2017, arXiv:1606.00704) in its
relativistic form, with another prior. The prior of a grid of latents is not N(0, I): neighbouring
cells depend on each other, the top model learns how, and G of independent cells is no frame. A D
that sees such cells wins for free and drags E away from what reconstructs (docs/log.md,
2026-11-26). So the generated pair's z is what the top model learns to sample: E's own latents of
the data, with noise. Only each cell's numbers are held to N(0, I). E and G learn to reconstruct
alone at first, then D joins, on a share of each batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.frame import FrameConfig, FrameGame, FrameModel, every
from ldf_video.models.game import Logs, Noise, Player, Tick
from ldf_video.models.gan import Discriminator, Restrained, RothConfig, Turn
from ldf_video.models.layers import Down, NormedBlock, PlainBlock, Stack, Up, pad_to_multiple
from ldf_video.models.losses import RunningMoments, pixel_loss, relativistic_loss

STRIDES = (4, 8, 16)
"""Sides of a cell in pixels, and how many numbers it has; 16 is read for old checkpoints only."""


def stride_of(height: int, width: int) -> int:
    """Side in pixels of one cell of the latent grid: 4 for frames of up to 96 pixels, else 8.

    Small cells are learned soonest: at 64 x 64, with 512 numbers either way, cells of 4 are sharper
    than cells of 8, at a quarter of the weights; with 4 numbers each sharper still (docs/log.md).
    """
    return 4 if max(height, width) <= 96 else 8


@dataclass(frozen=True)
class GridConfig(FrameConfig):
    """Shape of a frame model (`--preset default`).

    Attributes:
        height: 8 or more. The networks work on the next multiple of `stride`: frames are padded
            with their last row and column, what is generated there is cut off.
        width: likewise.
        stride: side in pixels of a cell of the latent grid: 4, 8 or 16.
        latent_channels: numbers a cell; the grid is (height / stride, width / stride), rounded up.
        base_width: channels of E and G at half resolution, a multiple of 8; doubled at a quarter
            and at an eighth.
        critic_width: the same for D.
        depth: residual blocks of E and G at the coarsest resolution (one at each finer one).
        linear: whether E and G have the linear map, a lapped transform (Malvar 1990): a cell's
            numbers are of its pixels and of half a cell around, and come back there.
        refines: whether what a top model makes is decoded by way of frames, G(E(G(z))). Not after
            G has learned such latents (`ldf_video.models.rolled`).
        hold: levels of 255 by which a pixel may differ in any colour from what was shown of it in
            the frame before and still be shown so; 0: each frame is shown as it is.
    """

    stride: int = 4
    latent_channels: int = 4
    base_width: int = 32
    critic_width: int = 32
    depth: int = 3
    linear: bool = True
    refines: bool = True
    hold: int = 0

    def __post_init__(self) -> None:
        if self.stride not in STRIDES:
            raise ValueError(f"stride {self.stride}: expected one of 4, 8, 16")
        if min(self.height, self.width) < 8:
            raise ValueError(f"frame size {self.width}x{self.height}: expected sides of 8 or more")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return (self.latent_channels, -(-self.height // self.stride), -(-self.width // self.stride))

    def widths(self, base: int) -> list[int]:
        """Channels after each halving, the finest first: growing up to four times the base."""
        return [base * min(2**i, 4) for i in range(self.stride.bit_length() - 1)]


def _lapped(
    kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], before: int, after: int, config: GridConfig
) -> nn.Module | None:
    """The linear map, 0 at initialisation: a model without one starts as it is."""
    if not config.linear:
        return None
    side = config.stride
    layer = kind(before, after, 2 * side, stride=side, padding=side // 2, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


class GridEncoder(nn.Module):
    """E: frames (B, 3, H, W) in [-1, 1] -> latents (B, C, H/stride, W/stride), near N(0, I)."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.stride = config.stride
        widths = config.widths(config.base_width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([3, *widths]):
            layers += [Down(before, after), NormedBlock(after)]
        layers += [NormedBlock(widths[-1]) for _ in range(config.depth - 1)]
        self.trunk = Stack(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU())
        self.head = nn.Conv2d(widths[-1], config.latent_channels, 1)
        self.linear = _lapped(nn.Conv2d, 3, config.latent_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, self.stride)
        z = self.head(self.trunk(x))
        return z if self.linear is None else z + self.linear(x)


class GridGenerator(nn.Module):
    """G: latents (B, C, H/stride, W/stride) -> frames (B, 3, H, W), about [-1, 1], not clamped."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.height, self.width = config.height, config.width
        widths = config.widths(config.base_width)[::-1]
        self.stem = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        layers: list[nn.Module] = [NormedBlock(widths[0]) for _ in range(config.depth)]
        for before, after in itertools.pairwise(widths):
            layers += [Up(before, after), NormedBlock(after)]
        self.trunk = Stack(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU(), Up(widths[-1], 3))
        self.linear = _lapped(nn.ConvTranspose2d, config.latent_channels, 3, config)

    def forward(self, z: Tensor) -> Tensor:
        x = self.trunk(self.stem(z))
        x = x if self.linear is None else x + self.linear(z)
        return x[..., : self.height, : self.width]


class GridDiscriminator(nn.Module):
    """D: a pair (frame, latent) -> logit (B,), high for the inferred pair (x, E(x)).

    No normalisation layers, so that Roth's penalty acts on what it is meant to act on.
    """

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.stride = config.stride
        widths = config.widths(config.critic_width)
        self.stages = nn.ModuleList(
            Stack(Down(before, after), PlainBlock(after))
            for before, after in itertools.pairwise([3, *widths])
        )
        w = widths[-1]
        self.of_latent = nn.Conv2d(config.latent_channels, w, 1)
        self.joint = Stack(nn.Conv2d(2 * w, w, 1), PlainBlock(w))
        _, rows, columns = config.latent_shape
        hidden = 4 * config.critic_width
        self.head = nn.Sequential(
            nn.Linear(w * rows * columns, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of frames after each halving; the last is for `judge`."""
        x, features = pad_to_multiple(x, self.stride), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def judge(self, features: Tensor, z: Tensor) -> Tensor:
        """The logit (B,) of a pair whose frame is given by its coarsest features."""
        h = self.joint(torch.cat([features, F.leaky_relu(self.of_latent(z), 0.2)], dim=1))
        return self.head(F.leaky_relu(h, 0.2).flatten(1)).squeeze(1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.judge(self.features(x)[-1], z)


class GridModel(FrameModel):
    config: GridConfig
    encoder: GridEncoder
    generator: GridGenerator

    def __init__(self, config: GridConfig) -> None:
        super().__init__(config, GridEncoder(config), GridGenerator(config))

    @property
    def hold(self) -> int:
        return self.config.hold

    def decode(self, z: Tensor) -> Tensor:
        """Frames of latents that a top model made: by way of frames, G(E(G(z))), else G(z).

        G takes a latent with noise to a frame, E takes that frame to a latent without, which is a
        step of a denoising autoencoder's chain towards the data (Bengio et al. 2013,
        arXiv:1305.6663). What is no part of any frame is lost on the way (docs/log.md).
        """
        if not self.config.refines:
            return self.generator(z)
        return self.generator(self.encoder(self.generator(z).clamp(-1, 1)))


@dataclass(frozen=True)
class GridWeights(Restrained):
    """Weights of any game of these networks; defaults are those of `GridGame`.

    Attributes:
        reconstruction: weight of |x - G(E(x))| + squared (x - G(E(x)))^2, means over pixels in
            [-1, 1].
        squared: weight of the squared difference in it. Near 29 dB both differences weigh about the
            same, further on the absolute one weighs more (docs/log.md).
        features: weight of the mean absolute difference of D's features of x and of G(E(x)).
        latent_noise: largest standard deviation of the noise on E(x) in the pair and in the
            reconstruction; each frame has its own, uniform in [0, latent_noise]. A top model's
            latents are off by some tenths, and G is to make sharp frames of them (docs/log.md).
        game: weight of the game itself.
        game_start: share of the training's budget after which D joins.
        game_share: share of the batch that D sees.
        rest: D's loss in nats under which it sits the next update out.
        critic_rate: learning rate of D, as a share of that of E and G.
        roth: the penalty on D, weighted by the pair's error; its target is in nats, ln 2 being a D
            that cannot tell.
    """

    reconstruction: float = 50.0
    squared: float = 10.0
    features: float = 10.0
    latent_noise: float = 0.6
    game: float = 0.1
    game_start: float = 0.5
    game_share: float = 0.25
    rest: float = 0.3
    critic_rate: float = 0.3
    roth: RothConfig = field(default_factory=lambda: RothConfig(penalty="pair"))


@dataclass(frozen=True)
class GridGameConfig(GridWeights):
    """Weights of E and G against D.

    Attributes:
        moments: weight of the distance of the mean and covariance of a cell's numbers from those of
            the prior.
    """

    moments: float = 0.5


class PairGame(FrameGame):
    """A game against a D of pairs, which joins late; D's loss is ln 2 where it cannot tell.

    Its opponents move first and pass on the pairs that D then judges, the inferred ones (x, z) and
    the generated ones: they are not made again.
    """

    model: GridModel
    discriminator: GridDiscriminator
    config: GridWeights

    def __init__(self, model: GridModel, config: GridWeights) -> None:
        super().__init__(model, GridDiscriminator(model.config), config)
        self.config = config

    def kind(self, step: int, progress: float) -> Turn:
        """What D does: it joins late, and rests while it wins too easily."""
        return self.restraint.turn(plays=progress >= self.config.game_start)

    def pixel_loss(self, x: Tensor, target: Tensor) -> Tensor:
        return pixel_loss(x, target, squared=self.config.squared)

    def discriminator_loss(self, batch: Any, tick: Tick) -> tuple[Tensor, Logs]:
        """What D minimises: softplus(D(generated) - D(inferred)) plus the penalty on its slope.

        That is `relativistic_loss` with the inferred pairs winning. D sits the update out unless
        pairs were passed on to it.
        """
        del batch
        if "pairs" not in tick.passed_on:
            return torch.zeros(()), {}
        inferred, generated = tick.passed_on["pairs"]
        return self.discriminate(
            self.discriminator,
            real=inferred,
            fake=generated,
            tick=tick,
            contest=relativistic_loss,
            weight=tick.passed_on["weight"],
        )

    def judge(
        self, D: Discriminator, real: Sequence[Tensor], fake: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All at once, which is quicker."""
        high, low = D(*(torch.cat(both) for both in zip(real, fake, strict=True))).chunk(2)
        return high, low


class GridGame(PairGame):
    """E and G against D."""

    config: GridGameConfig

    def __init__(self, model: GridModel, config: GridGameConfig) -> None:
        super().__init__(model, config)
        self.moments = RunningMoments(model.config.latent_channels)

    @property
    def players(self) -> Sequence[Player]:
        """E and G move first."""
        D, rate = self.discriminator, self.config.critic_rate
        return (
            Player("encoder_generator", [self.model], self.encoder_generator_loss),
            Player("discriminator", [D], self.discriminator_loss, rate=rate, adam=True),
        )

    def encoder_generator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """What E and G minimise.

        With z = E(x) + noise, and D_l the features of D at each depth:

            reconstruction * (|x - G(z)| + squared * (x - G(z))^2) + moments * moments of E(x)
            + game * softplus(D(x, z) - D(G(z), z)) + features * |D_l(x) - D_l(G(z))|

        The second line is there once D plays, on a share of the batch: `relativistic_loss` with the
        generated pairs winning, and features as in Larsen et al. (2016), arXiv:1512.09300.
        """
        c, E, G = self.config, self.model.encoder, self.model.generator
        code = E(x)
        z = self._noised(code, tick.noise)
        reconstruction = G(z)
        pixels = self.pixel_loss(reconstruction, x)
        moments = self.moments(code)
        loss = c.reconstruction * pixels + c.moments * moments
        logs = {"pixels": pixels, "moments": moments}
        if tick.kind.plays:
            few, weight = every(len(x), c.game_share, tick.noise.part)
            seen, latents, generated = x[few], z[few], reconstruction[few]
            against = self._against(seen, latents, generated)
            game, features = (weight * value for value in against)
            loss = loss + c.game * game + c.features * features
            logs |= {"encoder_generator": game, "features": features}
            pairs = (seen, latents), (generated, latents)
            tick.passed_on["pairs"] = [[part.detach() for part in pair] for pair in pairs]
            tick.passed_on["weight"] = weight
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

    def _noised(self, z: Tensor, noise: Noise) -> Tensor:
        level = self.config.latent_noise * noise.uniform(len(z), 1, 1, 1, device=z.device)
        return z + level * noise.normal(*z.shape, device=z.device)
