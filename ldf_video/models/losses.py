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


def moment_penalty(z: Tensor) -> Tensor:
    """Distance of mean and covariance from those of N(0, I), without a small batch's bias.

    |mean|^2 + |cov - I|^2 over the number of dimensions d, each square taken as the product of two
    estimates from the two halves of the batch: the plain square of one estimate is too large by
    about d^2 / B and would shrink the latents. The batch is that of all processes together.

    For batches of many rows; `RunningMoments` is for few. Rows must be independent, and cells of
    one frame are not: each covariance is then too small by the share of variance that is between
    frames, over the frames of a half. A share of 0.9 adds 0.2 to the value with 4 frames and 0.05
    with 8; that of a trained E, 0.02 to 0.04, adds 0.001.

    Of latents (B, ...), B at least 4, a scalar. Its expectation is at least 0, and 0 only where the
    moments agree.
    """
    flat = gathered(z.flatten(1).float())
    half = flat.shape[0] // 2
    if half < 2:
        raise ValueError(f"moment_penalty: got a batch of {flat.shape[0]}, expected at least 4")
    with torch.autocast(flat.device.type, enabled=False):
        (mean_a, cov_a), (mean_b, cov_b) = (_moments(part) for part in (flat[:half], flat[half:]))
    dimensions = flat.shape[1]
    eye = torch.eye(dimensions, device=flat.device)
    product = (mean_a * mean_b).sum() + ((cov_a - eye) * (cov_b - eye)).sum()
    return product / dimensions


class RunningMoments(nn.Module):
    """Distance of mean and covariance of latents from those of N(0, I), over many batches.

    |E z|^2 + |E z z^T - I|^2 over the number of dimensions d, with means over about the last
    LATENTS; a batch moves its own latents along that distance's gradient.

    For latents of which a batch has few beside d^2 numbers. There `moment_penalty` fails: a latent
    far out sees halves of batches that hold no other one like it, where the variance is below 1,
    and is sent farther out. The rare batch that holds two would send both back by far more, but
    Adam and a limit on the gradient's norm leave little of that.

    The buffers `mean` (d,) and `second` (d, d) are those means, `seen` is the number of latents
    that they are of, LATENTS at most.
    """

    LATENTS = 3_200
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
        """The distance, a scalar, with a batch of latents (B, ...) of d numbers taken in.

        The batch is that of all processes together.
        """
        with torch.autocast(z.device.type, enabled=False):
            flat = gathered(z.flatten(1).to(self.mean.dtype))
            count, dimensions = flat.shape
            mean, second = flat.mean(0), flat.T @ flat / count
            with torch.no_grad():
                self.seen.add_(count).clamp_(max=max(count, self.LATENTS))
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


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and unbiased covariance (d, d) of rows (B, d), written as a product."""
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (x.shape[0] - 1)
