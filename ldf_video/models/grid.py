"""The frame model of `--preset default`: E, G and D of single frames, latents on a small grid.

Adversarially learned inference (Dumoulin et al. 2017, arXiv:1606.00704), residual networks.
All three work at half the frame's resolution and below: 2 x 2 pixels enter and leave as channels,
so that most arithmetic runs over many channels at few places, where small hardware is quickest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.frame import FrameModel
from ldf_video.models.layers import Down, NormedBlock, PlainBlock, Stack, Up

STRIDE = 8
"""Pixels of a frame under one cell of its latent grid, each way."""


@dataclass(frozen=True)
class GridConfig:
    """Shape of a frame model (`--preset default`).

    Attributes:
        height: of a frame in pixels, a multiple of 8.
        width: of a frame in pixels, a multiple of 8.
        latent_channels: numbers a cell of the latent grid; the grid is (height / 8, width / 8).
        base_width: channels of E and G at half resolution, a multiple of 8; doubled a halving.
        critic_width: the same for D.
        depth: residual blocks of E and G at the coarsest resolution (one at each finer one).
    """

    height: int = 32
    width: int = 32
    latent_channels: int = 4
    base_width: int = 48
    critic_width: int = 32
    depth: int = 2

    def __post_init__(self) -> None:
        if self.height % STRIDE or self.width % STRIDE or min(self.height, self.width) < STRIDE:
            raise ValueError(
                f"frame size {self.height}x{self.width}: expected positive multiples of {STRIDE}"
            )

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of one frame's latent."""
        return (self.latent_channels, self.height // STRIDE, self.width // STRIDE)


class GridEncoder(nn.Module):
    """E: frames (B, 3, H, W) in [-1, 1] -> latents (B, C, H/8, W/8), near N(0, I) once trained."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        w = config.base_width
        self.trunk = Stack(
            Down(3, w),
            NormedBlock(w),
            Down(w, 2 * w),
            NormedBlock(2 * w),
            Down(2 * w, 4 * w),
            *[NormedBlock(4 * w) for _ in range(config.depth)],
            nn.GroupNorm(8, 4 * w),
            nn.SiLU(),
        )
        self.head = nn.Conv2d(4 * w, config.latent_channels, 1)

    def hidden(self, x: Tensor) -> Tensor:
        """The last hidden layer, (B, 4 * base_width, H/8, W/8): where the shortcut branches off."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


class GridGenerator(nn.Module):
    """G: latents (B, C, H/8, W/8) -> frames (B, 3, H, W), about [-1, 1], not clamped."""

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        w = config.base_width
        self.stem = nn.Conv2d(config.latent_channels, 4 * w, 3, padding=1)
        self.trunk = Stack(
            *[NormedBlock(4 * w) for _ in range(config.depth)],
            Up(4 * w, 2 * w),
            NormedBlock(2 * w),
            Up(2 * w, w),
            NormedBlock(w),
            nn.GroupNorm(8, w),
            nn.SiLU(),
            Up(w, 3),
        )

    def from_hidden(self, h: Tensor) -> Tensor:
        """Decode a hidden layer of E's shape, around the latents: the paper's shortcut."""
        return self.trunk(h)

    def forward(self, z: Tensor) -> Tensor:
        return self.trunk(self.stem(z))


class GridDiscriminator(nn.Module):
    """D: a pair (frame, latent) -> logit (B,), high for the inferred pair (x, E(x)).

    No normalisation layers, so that Roth's penalty acts on what it is meant to act on.
    """

    def __init__(self, config: GridConfig) -> None:
        super().__init__()
        w = config.critic_width
        self.stages = nn.ModuleList(
            [
                Stack(Down(3, w), PlainBlock(w)),
                Stack(Down(w, 2 * w), PlainBlock(2 * w)),
                Stack(Down(2 * w, 4 * w), PlainBlock(4 * w)),
            ]
        )
        self.of_latent = nn.Conv2d(config.latent_channels, 4 * w, 1)
        self.joint = Stack(nn.Conv2d(8 * w, 4 * w, 1), PlainBlock(4 * w))
        _, rows, columns = config.latent_shape
        self.head = nn.Sequential(
            nn.Linear(4 * w * rows * columns, 4 * w), nn.LeakyReLU(0.2), nn.Linear(4 * w, 1)
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Features of frames at 1/2, 1/4 and 1/8 of their resolution; the last is for `judge`."""
        features = []
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
