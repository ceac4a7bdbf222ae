"""The paper's baseline: one GAN over all frames of a clip, stacked as channels.

It exists to be compared with: its discriminator and its gradients span the whole video, so its
memory grows with the number of frames, which is fixed. Networks, game and regularizer are those of
the paper's frame model, without an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ldf_video.models.ali import AliConfig, AliGenerator, FrameFeatures, initialise
from ldf_video.models.game import Logs, Noise, Player, Tick
from ldf_video.models.gan import GanConfig, GanGame
from ldf_video.models.layers import recompute_statistics


@dataclass(frozen=True)
class JointConfig:
    """Shape of a joint GAN.

    Attributes:
        height: of a frame in pixels, a multiple of 8 from 24 on.
        width: of a frame in pixels, likewise.
        num_frames: of a clip.
        noise_size: of G's input: as many numbers as five of the paper's latents have.
        base_width: channels of the first layer, as in the paper's frame model.
    """

    height: int = 32
    width: int = 32
    num_frames: int = 5
    noise_size: int = 320
    base_width: int = 32

    @property
    def networks(self) -> AliConfig:
        """The shape of the networks that it shares with the paper's frame model."""
        return AliConfig(self.height, self.width, self.noise_size, self.base_width)


class JointModel(nn.Module):
    """G: noise (N, noise_size) -> clips (N, T, 3, H, W) in [-1, 1]."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = AliGenerator(config.networks, channels=3 * config.num_frames)

    def forward(self, noise: Tensor) -> Tensor:
        # Bounded, as nothing but D would hold the pixels in their range.
        stacked = torch.tanh(self.generator(noise[:, :, None, None]))
        return stacked.unflatten(1, (self.config.num_frames, 3))


class JointDiscriminator(nn.Module):
    """D: clips (B, T, 3, H, W) -> logit (B,), high for real ones."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        w = 16 * config.base_width
        self.features = FrameFeatures(config.networks, channels=3 * config.num_frames)
        score = nn.Linear(w, 1)
        self.head = nn.Sequential(nn.Linear(w, w), nn.LeakyReLU(0.1), score)
        initialise(self.head)
        nn.init.zeros_(score.weight)  # D begins undecided, and Roth's penalty at 0

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.features(clips.flatten(1, 2))).squeeze(1)


class JointGame(GanGame):
    """G against D, on batches of clips (B, T, 3, H, W) in [-1, 1]."""

    model: JointModel

    def __init__(self, model: JointModel, config: GanConfig) -> None:
        super().__init__(model, JointDiscriminator(model.config), config)

    @property
    def players(self) -> Sequence[Player]:
        """D moves first."""
        return (
            Player("discriminator", [self.discriminator], self.discriminator_loss, adam=True),
            Player("generator", [self.model], self.generator_loss),
        )

    def discriminator_loss(self, clips: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """D scores real clips high and generated ones low, within Roth's bound on its slope."""
        with torch.no_grad():
            fake = self._fake(clips, tick.noise)
        return self.discriminate(self.discriminator, real=(clips,), fake=(fake,), tick=tick)

    def generator_loss(self, clips: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """G makes D score its clips high."""
        score = self.discriminator(self._fake(clips, tick.noise))
        loss = nn.functional.softplus(-score).mean()
        return loss, {"generator": loss.detach()}

    def calibrate(self, model: JointModel, batch: Tensor) -> None:
        """Give averaged weights the batch statistics that they have themselves."""
        size = model.config.noise_size
        noise = Noise(0).normal(len(batch), size, 1, 1, device=batch.device)
        recompute_statistics(model.generator, noise)

    def _fake(self, clips: Tensor, noise: Noise) -> Tensor:
        size = self.model.config.noise_size
        return self.model(noise.normal(len(clips), size, device=clips.device))
