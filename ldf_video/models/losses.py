"""Losses of the games, and the penalties that keep their networks in bounds.

All take logits, none takes probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldf_video.models.layers import gathered


def pixel_loss(x: Tensor, target: Tensor, *, squared: float = 1.0) -> Tensor:
    """Mean absolute plus `squared` times mean squared difference, a scalar; pixels in [-1, 1]."""
    difference = x.float() - target
    return difference.abs().mean() + squared * difference.square().mean()


def relativistic_loss(winner: Tensor, loser: Tensor) -> Tensor:
    """Mean softplus(loser - winner), in nats, of logits (B,): a pair's winner is to score higher.

    Jolicoeur-Martineau (2018), arXiv:1807.00734; R3GAN (2024), arXiv:2501.05441, eq. 2.
    D minimises it with the inferred pairs winning, E and G with the generated pairs winning. It is
    ln 2 where D cannot tell the two apart.
    """
    return F.softplus(loser - winner).mean()


def binary_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean softplus(-real) + mean softplus(fake), in nats, of logits (B,): binary cross-entropy.

    Goodfellow et al. (2014), arXiv:1406.2661, eq. 1, with the sign changed. D's opponents minimise
    it with the two exchanged. It is 2 ln 2 where D cannot tell them apart.
    """
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def roth_penalty(logits: Tensor, inputs: Sequence[Tensor], *, error: Tensor) -> Tensor:
    """Gradient-norm regularizer of a discriminator, weighted by its own error.

    Roth et al. (2017), arXiv:1705.09367, Algorithm 1: error^2 |grad|^2, the gradient taken over all
    inputs together.

    Args:
        logits: D's output, shape (B,), unbounded, with a graph to every input.
        inputs: what D saw, each of shape (B, ...), requiring gradients.
        error: how wrong D is about each, (B,) in [0, 1].

    Returns:
        Mean penalty, a scalar, in squared nats per squared unit of input.
    """
    gradients = torch.autograd.grad(logits.sum(), list(inputs), create_graph=True)
    squared_norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
    return (error.square() * squared_norm).mean()


class RunningMoments(nn.Module):
    """Distance of mean and covariance of latents from those of N(0, I), over many batches.

    |E z|^2 + |E z z^T - I|^2 over the number of dimensions d, with means over about the last
    FRAMES; a batch moves its own latents along that distance's gradient. Cells of a frame count
    as one, as they are alike: means over fewer frames would call that likeness too large a
    variance.

    A batch alone does not tell. The square of its estimate is too large by about d^2 / B, which
    shrinks the latents. A product of two estimates, from its halves, is right on average, but a
    latent far out sees halves that hold no other one like it, where the variance is below 1, and
    is sent farther out. The rare batch that holds two would send both back by far more, but Adam
    and a limit on the gradient's norm leave little of that (docs/log.md).

    The buffers `mean` (d,) and `second` (d, d) are those means, `seen` is the number of frames
    that they are of, FRAMES at most.
    """

    FRAMES = 3_200
    mean: Tensor
    second: Tensor
    seen: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("second", torch.eye(dimensions))
        self.register_buffer("seen", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_begin_anew)  # type: ignore[no-untyped-call]

    def forward(self, z: Tensor) -> Tensor:
        """The distance, a scalar, with latents (B, d, ...) of a batch of frames taken in.

        The batch is that of all processes together.
        """
        with torch.autocast(z.device.type, enabled=False):
            frames = gathered(z.to(self.mean.dtype).reshape(*z.shape[:2], -1))
            count, dimensions = frames.shape[:2]
            cells = frames.transpose(1, 2).flatten(0, 1)
            mean, second = cells.mean(0), cells.T @ cells / len(cells)
            with torch.no_grad():
                self.seen.add_(count).clamp_(max=max(count, self.FRAMES))
                self.mean.lerp_(mean, count / self.seen)
                self.second.lerp_(second, count / self.seen)
            off_mean = self.mean.clone()
            off_second = self.second - torch.eye(dimensions, device=z.device, dtype=second.dtype)
            distance = off_mean.square().sum() + off_second.square().sum()
            along = 2 * ((off_mean * mean).sum() + (off_second * second).sum())
            return (distance + along - along.detach()) / dimensions


def _begin_anew(moments: RunningMoments, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """States that were saved before 2026-11-29 do not hold them."""
    for name, value in moments.named_buffers():
        state.setdefault(f"{prefix}{name}", value.clone())
