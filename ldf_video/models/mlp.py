"""The paper's top model (`--kind mlp`): a fully connected GAN over whole latent sequences.

G and D see the concatenated latents of a fixed number of frames. The game is binary cross-entropy
with Roth's regularizer, as on the lower level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldf_video.models.condition import Windows
from ldf_video.models.game import Logs, Player, Tick
from ldf_video.models.gan import GanConfig, GanGame
from ldf_video.models.rollout import Rollout
from ldf_video.models.top import TopModel


@dataclass(frozen=True)
class MlpConfig:
    """Shape of a fully connected top model.

    Attributes:
        latent_shape: of one frame, (channels, rows, columns).
        window: frames that it makes, always as many.
        noise_size: of G's input.
        width: of the hidden layers.
        depth: hidden layers of G and of D.
    """

    latent_shape: tuple[int, int, int] = (64, 1, 1)
    window: int = 5
    noise_size: int = 256
    width: int = 512
    depth: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "latent_shape", tuple(self.latent_shape))
        if self.window < 1:
            raise ValueError(f"window {self.window}: expected 1 frame or more")

    @property
    def sequence_size(self) -> int:
        """Numbers in a sequence."""
        return self.window * math.prod(self.latent_shape)


class MlpTop(TopModel):
    """G: noise (N, noise_size) -> tokens (N, window, C * H * W), standardised latents."""

    config: MlpConfig

    def __init__(self, config: MlpConfig) -> None:
        super().__init__(config)
        self.generator = _perceptron(
            config.noise_size, config.sequence_size, width=config.width, depth=config.depth
        )

    @property
    def fixed_frames(self) -> int:
        return self.config.window

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise).unflatten(1, (self.config.window, -1))

    @torch.inference_mode()
    def sample(self, rollout: Rollout, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Generate sequences, all frames at once; see `TopModel.sample`.

        Raises:
            ValueError: another number of frames than `window`, a past, given frames, or a stride.
        """
        self.check_stride(rollout)
        known = rollout.past is not None or rollout.given is not None
        if rollout.num_frames != self.config.window or known:
            raise ValueError(
                f"{rollout.num_frames} frames{', of which some are known' if known else ''}: "
                f"expected {self.config.window} and none that is known"
            )
        size = (self.config.noise_size,)
        noise = torch.stack([torch.randn(size, generator=g, device=g.device) for g in generators])
        yield self.restore(self(noise.to(self.latent_mean.device)))


class MlpDiscriminator(nn.Module):
    """D: tokens (B, window, C * H * W), mask (B, window) float -> logit (B,), high for real ones.

    It sees the mask, so that clips shorter than the window take part with the frames they have.
    """

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        inputs = config.sequence_size + config.window
        self.layers = _perceptron(inputs, 1, width=config.width, depth=config.depth)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        seen = tokens * mask.unsqueeze(-1)
        return self.layers(torch.cat([seen.flatten(1), mask], dim=1)).squeeze(1)


class MlpGame(GanGame):
    """G against D, on batches of windows with their masks."""

    model: MlpTop

    def __init__(self, top: MlpTop, config: GanConfig) -> None:
        super().__init__(top, MlpDiscriminator(top.config), config)
        self.config = config

    @property
    def players(self) -> Sequence[Player]:
        """D moves first."""
        return (
            Player("discriminator", [self.discriminator], self.discriminator_loss, adam=True),
            Player("generator", [self.model], self.generator_loss),
        )

    def discriminator_loss(self, batch: Windows, tick: Tick) -> tuple[Tensor, Logs]:
        """D scores real sequences high and generated ones low, within Roth's bound."""
        latents, real, *_ = batch
        # What stands under the mask may be anything, NaN too: times 0 is not enough.
        known = torch.where(real[:, :, None, None, None], latents, self.model.latent_mean)
        tokens, mask = self.model.standardise(known), real.float()
        with torch.no_grad():
            fake = self._fake(len(tokens), tick)
        return self.discriminate(
            lambda tokens: self.discriminator(tokens, mask), real=(tokens,), fake=(fake,), tick=tick
        )

    def generator_loss(self, batch: Windows, tick: Tick) -> tuple[Tensor, Logs]:
        """G makes D score its sequences high, cut to the lengths of the real ones."""
        mask = batch[1].float()
        score = self.discriminator(self._fake(len(mask), tick), mask)
        loss = nn.functional.softplus(-score).mean()
        return loss, {"generator": loss.detach()}

    def _fake(self, count: int, tick: Tick) -> Tensor:
        size, device = self.model.config.noise_size, self.model.latent_mean.device
        return self.model(tick.noise.normal(count, size, device=device))


def _perceptron(inputs: int, outputs: int, *, width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in [inputs, *[width] * (depth - 1)]:
        layers += [nn.Linear(size, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
