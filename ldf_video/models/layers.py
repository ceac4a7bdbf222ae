"""The blocks that the networks are built of, and statistics of a batch over processes.

A batch that is split over processes has the statistics of the whole batch, gradients too. A batch
that is split to save memory (`--accumulate`) has the statistics of each part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_apart = False


@contextmanager
def apart() -> Iterator[None]:
    """Within it a process is on its own: what one alone computes must not wait for the others."""
    global _apart  # noqa: PLW0603
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def joined() -> int:
    """The number of processes that share each batch."""
    if _apart:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: Tensor) -> Tensor:
    """Rows (B, ...) of all processes, in their order, (N B, ...).

    For statistics that every process computes alike from all rows: the gradient is that of the
    own rows times N, so that its mean over the processes is that of the statistic.
    """
    if joined() == 1:
        return x
    own = x.new_zeros(joined(), *x.shape)
    own[dist.get_rank()] = x
    return _Sum.apply(own).flatten(0, 1)  # type: ignore[no-untyped-call]


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a tensor of any one shape over all processes, with gradients to each."""
    return x if joined() == 1 else _Sum.apply(x) / joined()  # type: ignore[no-untyped-call]


class _Sum(torch.autograd.Function):
    """Over all processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


class Stack(nn.Sequential):
    """Layers after each other, whose inner results can be computed twice instead of kept.

    Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): while `checkpointing` is set, only
    what enters each layer is kept for the gradient.
    """

    checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            if self.checkpointing and torch.is_grad_enabled():
                # No layer draws random numbers, so none are kept for the second pass.
                x = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x)
        return x


def set_checkpointing(module: nn.Module, *, on: bool) -> None:
    """Turn gradient checkpointing on or off in all stacks of a module."""
    for part in module.modules():
        if isinstance(part, Stack):
            part.checkpointing = on


class BatchNorm(nn.Module):
    """Batch norm whose statistics are those of the whole batch, over all processes.

    Ioffe & Szegedy (2015), arXiv:1502.03167. torch's own does this on CUDA only.

    Shapes: (B, channels, H, W) -> the same.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.momentum, self.epsilon = 0.1, 1e-5
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or joined() == 1:
            running, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
            return F.batch_norm(x, *running, *affine, self.training, self.momentum, self.epsilon)
        mean = mean_over_processes(x.float().mean((0, 2, 3)))
        centred = x.float() - mean[:, None, None]
        var = mean_over_processes(centred.square().mean((0, 2, 3)))
        with torch.no_grad():
            count = joined() * x.numel() / x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / max(count - 1, 1), self.momentum)
        scale = self.weight * torch.rsqrt(var + self.epsilon)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


@torch.no_grad()
def recompute_statistics(module: nn.Module, x: Tensor) -> None:
    """Set the running statistics of all batch norms to those of one batch that passes through.

    Averaged weights do not fit averaged or copied statistics (Wu & Johnson 2021, arXiv:2105.07576).
    """
    norms = [part for part in module.modules() if isinstance(part, BatchNorm)]
    if not norms:
        return
    was_training, momenta = module.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    module.train()
    with apart():
        module(x)
    module.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class NormedBlock(nn.Module):
    """Pre-activation residual block with GroupNorm, the identity at initialisation.

    He et al. (2016), arXiv:1603.05027, with Wu & He's GroupNorm (2018), arXiv:1803.08494: averaged
    weights (EMA) stay valid, as there are no running statistics to average beside them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class PlainBlock(nn.Module):
    """Residual block without normalisation, the identity at initialisation, for discriminators.

    Huang et al. (2024), R3GAN, arXiv:2501.05441. Shapes: (B, channels, H, W) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.leaky_relu(x, 0.2))
        return x + self.conv2(F.leaky_relu(h, 0.2))


class Down(nn.Module):
    """Halve height and width: 2 x 2 cells become channels, then a 3 x 3 convolution mixes them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))


class Up(nn.Module):
    """Double height and width: a 3 x 3 convolution makes the channels of 2 x 2 cells.

    Sub-pixel convolution (Shi et al. 2016, arXiv:1609.05158).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of frames (B, C, H, W) until both sides are multiples."""
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def patchify(grids: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut grids (..., C, H, W) into patches (..., patches, C * rows * columns), row by row.

    Zeros fill the last ones of a grid that is no multiple of a patch's rows and columns.
    """
    rows, columns = patch
    grids = F.pad(grids, (0, -grids.shape[-1] % columns, 0, -grids.shape[-2] % rows))
    cut = grids.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows))  # (..., C, h, rows, w, cols)
    return cut.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


def unpatchify(patches: Tensor, shape: tuple[int, int, int], patch: tuple[int, int]) -> Tensor:
    """The inverse of `patchify`: grids (..., C, H, W) of a shape."""
    (channels, height, width), (rows, columns) = shape, patch
    cut = patches.unflatten(-2, (-1, math.ceil(width / columns)))
    cut = cut.unflatten(-1, (channels, rows, columns))  # (..., h, w, C, rows, columns)
    grids = cut.movedim((-5, -4), (-4, -2)).flatten(-4, -3).flatten(-2)
    return grids[..., :height, :width]


def fourier_features(level: Tensor, count: int) -> Tensor:
    """Sines and cosines (..., 2 * count) of noise levels (...) in [0, 1].

    The `count` frequencies lie an octave apart, from half a turn upwards.
    """
    frequencies = torch.pi * 2.0 ** torch.arange(count, device=level.device, dtype=level.dtype)
    angles = level.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
