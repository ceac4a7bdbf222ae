"""The frame model of `--preset default`: E, G and D of single frames, latents on a small grid.

Adversarially learned inference (Dumoulin et al. 2017, arXiv:1606.00704), residual networks.
All three work at half the frame's resolution and below: 2 x 2 pixels enter and leave as channels,
so that most arithmetic runs over many channels at few places, where small hardware is quickest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.frame import FrameModel
from ldf_video.models.layers import Down, NormedBlock, PlainBlock, Stack, Up, pad_to_multiple

REFINEMENTS = 1
"""Times that a generated latent goes through a frame and back before it is decoded."""
CHANNELS_AT = {4: 4, 8: 8, 16: 16}
"""Numbers a cell of the grid, by the cell's side in pixels."""


def stride_of(height: int, width: int) -> int:
    """Side in pixels of one cell of the latent grid: the grid has some 8 cells along a frame.

    Frames of up to 48 pixels have cells of 4, up to 96 of 8, larger ones of 16.
    """
    longer = max(height, width)
    return 4 if longer <= 48 else 8 if longer <= 96 else 16


@dataclass(frozen=True)
class GridConfig:
    """Shape of a frame model (`--preset default`).

    Attributes:
        height: of a frame in pixels, 8 or more. The networks work on the next multiple of `stride`:
            frames are padded with their last row and column, what is generated there is cut off.
        width: of a frame in pixels, likewise.
        stride: side in pixels of a cell of the latent grid: 4, 8 or 16.
        latent_channels: numbers a cell; the grid is (height / stride, width / stride), rounded up.
        base_width: channels of E and G at half resolution, a multiple of 8; doubled at a quarter
            and at an eighth.
        critic_width: the same for D.
        depth: residual blocks of E and G at the coarsest resolution (one at each finer one).
    """

    height: int = 32
    width: int = 32
    stride: int = 4
    latent_channels: int = 4
    base_width: int = 32
    critic_width: int = 32
    depth: int = 3

    def __post_init__(self) -> None:
        if self.stride not in CHANNELS_AT:
            raise ValueError(
                f"stride {self.stride}: expected one of {', '.join(map(str, CHANNELS_AT))}"
            )
        if min(self.height, self.width) < 8:
            raise ValueError(f"frame size {self.width}x{self.height}: expected sides of 8 or more")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of one frame's latent."""
        return (self.latent_channels, -(-self.height // self.stride), -(-self.width // self.stride))

    @property
    def halvings(self) -> int:
        """From a frame to its grid."""
        return self.stride.bit_length() - 1


def _widths(base: int, config: GridConfig) -> list[int]:
    """Channels after each halving, the finest first: growing up to four times the base."""
    return [base * min(2**i, 4) for i in range(config.halvings)]


class GridEncoder(nn.Module):
    """E: frames (B, 3, H, W) in [-1, 1] -> latents (B, C, H/stride, W/stride), near N(0, I)."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.stride = config.stride
        widths = _widths(config.base_width, config)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([3, *widths]):
            layers += [Down(before, after), NormedBlock(after)]
        layers += [NormedBlock(widths[-1]) for _ in range(config.depth - 1)]
        self.trunk = Stack(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU())
        self.head = nn.Conv2d(widths[-1], config.latent_channels, 1)

    def hidden(self, x: Tensor) -> Tensor:
        """The last hidden layer, on the latents' grid: where the shortcut branches off."""
        return self.trunk(pad_to_multiple(x, self.stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


class GridGenerator(nn.Module):
    """G: latents (B, C, H/stride, W/stride) -> frames (B, 3, H, W), about [-1, 1], not clamped."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.height, self.width = config.height, config.width
        widths = _widths(config.base_width, config)[::-1]
        self.stem = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        layers: list[nn.Module] = [NormedBlock(widths[0]) for _ in range(config.depth)]
        for before, after in itertools.pairwise(widths):
            layers += [Up(before, after), NormedBlock(after)]
        self.trunk = Stack(*layers, nn.GroupNorm(8, widths[-1]), nn.SiLU(), Up(widths[-1], 3))

    def from_hidden(self, h: Tensor) -> Tensor:
        """Decode a hidden layer of E's shape, around the latents: the paper's shortcut."""
        return self.trunk(h)[..., : self.height, : self.width]

    def forward(self, z: Tensor) -> Tensor:
        return self.from_hidden(self.stem(z))


class GridDiscriminator(nn.Module):
    """D: a pair (frame, latent) -> logit (B,), high for the inferred pair (x, E(x)).

    No normalisation layers, so that Roth's penalty acts on what it is meant to act on.
    """

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.stride = config.stride
        widths = _widths(config.critic_width, config)
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
    """Encoder and generator: all that is needed once training is over."""

    config: GridConfig
    encoder: GridEncoder
    generator: GridGenerator

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = GridEncoder(config)
        self.generator = GridGenerator(config)

    def decode(self, z: Tensor) -> Tensor:
        """Frames of latents that a top model made, by way of frames: G(E(G(z))).

        G takes a latent with noise to a frame, E takes that frame to a latent without, which is a
        step of a denoising autoencoder's chain towards the data (Bengio et al. 2013,
        arXiv:1305.6663). What is no part of any frame is lost on the way (docs/log.md).
        """
        for _ in range(REFINEMENTS):
            z = self.encoder(self.generator(z).clamp(-1, 1))
        return self.generator(z)
