"""The blocks that the networks are built of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormedBlock(nn.Module):
    """Pre-activation residual block with GroupNorm, the identity at initialisation.

    He et al. (2016), arXiv:1603.05027, with Wu & He's GroupNorm (2018), arXiv:1803.08494: averaged
    weights (EMA) stay valid, as there are no running statistics to average beside them.

    Shapes: (B, channels, H, W) -> the same.
    """

    def __init__(self, channels: int, *, groups: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return x + h


class PlainBlock(nn.Module):
    """Residual block without normalisation, the identity at initialisation, for discriminators.

    Huang et al. (2024), R3GAN, arXiv:2501.05441: no norm layers, zero-initialised last convolution.

    Shapes: (B, channels, H, W) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, 0.2))
        h = self.conv2(F.leaky_relu(h, 0.2))
        return x + h


class Down(nn.Module):
    """Halve height and width: 2 x 2 cells become channels, then a 3 x 3 convolution mixes them.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2), H and W even.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))


class Up(nn.Module):
    """Double height and width: a 3 x 3 convolution makes the channels of 2 x 2 cells.

    Shi et al. (2016), arXiv:1609.05158 (sub-pixel convolution).

    Shapes: (B, in_channels, H, W) -> (B, out_channels, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


def fourier_features(level: Tensor, count: int) -> Tensor:
    """Sines and cosines of a noise level at `count` octave-spaced frequencies.

    Args:
        level: any shape (...), values in [0, 1].
        count: number of frequencies, from half a turn upwards.

    Returns:
        (..., 2 * count), in [-1, 1].
    """
    frequencies = torch.pi * 2.0 ** torch.arange(count, device=level.device, dtype=level.dtype)
    angles = level.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
