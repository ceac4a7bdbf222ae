"""The baseline that the two levels are compared with: one GAN over all frames of a clip.

The frames are stacked as channels, 15 for five frames in colour, as in the paper (section 5.2).
Its discriminator and its gradients span the whole clip, so its memory grows with the number of
frames, which is fixed. The recipe is R3GAN's (Huang et al. 2024, arXiv:2501.05441), small enough
for one core: a relativistic game, R1 and R2 without any weight by D's error, residual blocks whose
last convolution is zero at first, no normalisation, Adam without momentum, averaged weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from experiment import Clips, spread
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ldf_video.models.game import Game, Logs, Noise, Part, Player, Tick
from ldf_video.models.gan import GanGame, Restrained, RothConfig
from ldf_video.models.layers import Down, PlainBlock, Stack
from ldf_video.models.losses import relativistic_loss
from ldf_video.training.update import frame_indices
from ldf_video.video.pixels import from_model, to_model
from ldf_video.video.sheet import write_sheet

SHOWN = 64
"""Clips of a sheet while training, and of which the spread is taken."""
AT_ONCE = 64
TRAINING = {
    "learning_rate": 5e-4,
    "beta1": 0.0,
    "average": 0.998,
    "batch_size": 64,
    "mixed_precision": "bf16",
}
"""As of `TrainConfig`; by Adam."""


@dataclass(frozen=True)
class JointConfig:
    """Shape of a joint GAN.

    Attributes:
        size: of a frame in pixels, each side a multiple of 8.
        num_frames: of a clip.
        noise_size: numbers that G makes a clip of.
        width: channels at half of a frame's size; twice and four times as many below.
        depth: residual blocks at each of the three sizes.
    """

    size: int = 32
    num_frames: int = 5
    noise_size: int = 64
    width: int = 32
    depth: int = 1

    @property
    def channels(self) -> int:
        """Of all frames, stacked."""
        return 3 * self.num_frames

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels at a half, a quarter and an eighth of a frame's size."""
        return (self.width, 2 * self.width, 4 * self.width)


class Up(nn.Module):
    """Double height and width between pixels, then mix by a 3 x 3 convolution.

    Sub-pixel convolutions, as the frame model has, began with patterns of single pixels here.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2, mode="bilinear"))


class JointModel(nn.Module):
    """G: noise (N, noise_size) -> clips (N, T, 3, H, W), about [-1, 1] and not clamped."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.widths
        self.cells = (eighth, config.size // 8, config.size // 8)
        self.stem = nn.Linear(config.noise_size, eighth * self.cells[1] ** 2)
        self.trunk = Stack(
            *_blocks(eighth, config.depth),
            Up(eighth, quarter),
            *_blocks(quarter, config.depth),
            Up(quarter, half),
            *_blocks(half, config.depth),
            nn.LeakyReLU(0.2),
            Up(half, config.channels),
        )

    def forward(self, noise: Tensor) -> Tensor:
        stacked = self.trunk(self.stem(noise).unflatten(1, self.cells))
        return stacked.unflatten(1, (self.config.num_frames, 3))


class JointDiscriminator(nn.Module):
    """D: clips (B, T, 3, H, W) -> logit (B,), high for real ones."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.widths
        self.trunk = Stack(
            Down(config.channels, half),
            *_blocks(half, config.depth),
            Down(half, quarter),
            *_blocks(quarter, config.depth),
            Down(quarter, eighth),
            *_blocks(eighth, config.depth),
            nn.LeakyReLU(0.2),
        )
        self.head = nn.Linear(eighth * (config.size // 8) ** 2, 1)
        nn.init.zeros_(self.head.weight)  # D begins undecided

    def forward(self, clips: Tensor) -> Tensor:
        return self.head(self.trunk(clips.flatten(1, 2)).flatten(1)).squeeze(1)


@dataclass(frozen=True)
class JointGameConfig(Restrained):
    """The game: R1 + R2 in their plain form, raised while D wins; D never rests.

    Attributes:
        roth: the penalty on D; see `RothConfig`. 15 channels want a larger weight than R3GAN's.
        rest: D's loss in nats under which D would rest; it is never below 0.
    """

    roth: RothConfig = field(
        default_factory=lambda: RothConfig(
            penalty="r1r2", gamma=10.0, gamma_floor=0.5, target=0.5, pressure_rate=0.03
        )
    )
    rest: float = 0.0


class JointGame(GanGame):
    """G against D, on batches of clips (B, T, 3, H, W) in [-1, 1]."""

    model: JointModel

    def __init__(self, model: JointModel, config: JointGameConfig) -> None:
        super().__init__(model, JointDiscriminator(model.config), config)

    @property
    def players(self) -> Sequence[Player]:
        """D moves first."""
        return (
            Player("discriminator", [self.discriminator], self.discriminator_loss),
            Player("generator", [self.model], self.generator_loss),
        )

    def discriminator_loss(self, clips: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """D scores each real clip above a generated one; arXiv:2501.05441, eq. 2 and section 3."""
        with torch.no_grad():
            fake = self._fake(clips, tick.noise)
        return self.discriminate(
            self.discriminator, real=(clips,), fake=(fake,), tick=tick, contest=relativistic_loss
        )

    def generator_loss(self, clips: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """G makes D score its clips above real ones."""
        fake = self.discriminator(self._fake(clips, tick.noise))
        with torch.no_grad():
            real = self.discriminator(clips)
        loss = relativistic_loss(fake, real)
        return loss, {"generator": loss.detach()}

    def _fake(self, clips: Tensor, noise: Noise) -> Tensor:
        return self.model(noise.normal(len(clips), self.model.config.noise_size))


def _blocks(width: int, depth: int) -> list[nn.Module]:
    return [PlainBlock(width) for _ in range(depth)]


class JointLevel:
    """The baseline as the training loop sees it: a game on whole clips."""

    score = "none"  # no loss of a GAN tells which of two generators is better

    def __init__(self, game: Game, clips: Clips, *, batch_size: int, seed: int) -> None:
        """Args: the game; clips uint8 (N, T, H, W, 3) that all have part in it."""
        self.game = game
        game.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.clips, self.batch_size, self.seed = clips, batch_size, seed

    def batch(self, step: int, part: Part, device: torch.device) -> Tensor:
        """Random clips (B, T, 3, H, W) in [-1, 1]."""
        numbers = frame_indices(
            self.seed, step, num_frames=len(self.clips), batch_size=self.batch_size
        )
        return to_clips(self.clips[part.rows(numbers)], device)

    def calibration(self, device: torch.device) -> None:
        """There are no batch statistics."""

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """How far made clips are from each other, as a share of how far real ones are."""
        made = sample(model, SHOWN, seed=0)
        return {"spread": spread(made) / spread(self.clips[:SHOWN])}

    def describe(self, model: nn.Module, values: Mapping[str, float]) -> str:
        """The same, in words."""
        del model
        return f"spread {values['spread']:.2f} of real clips'"

    def draw(self, model: nn.Module, path: Path) -> NDArray[np.uint8]:
        """Made clips, a row each."""
        return write_sheet(path.with_suffix(".png"), list(sample(model, SHOWN, seed=0)), upscale=2)


def to_clips(pixels: Clips, device: torch.device | str = "cpu") -> Tensor:
    """Clips uint8 (N, T, H, W, 3) -> (N, T, 3, H, W) in [-1, 1]."""
    frames = to_model(pixels.reshape(-1, *pixels.shape[2:]), device=device)
    return frames.unflatten(0, pixels.shape[:2])


@torch.inference_mode()
def sample(model: nn.Module, count: int, *, seed: int) -> Clips:
    """Clips (count, T, H, W, 3) of a baseline; the first ones are those of a smaller count."""
    noise, parts = Noise(seed), []
    for start in range(0, count, AT_ONCE):
        made = model(noise.normal(AT_ONCE, model.config.noise_size))[: count - start]
        frames = from_model(made.flatten(0, 1))
        parts.append(frames.reshape(*made.shape[:2], *frames.shape[1:]))
    return np.concatenate(parts)
