"""What every frame model is, whatever its networks: E and G of single frames, and their game."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from ldf_video.models.game import Logs, Part, Player, Tick
from ldf_video.models.losses import GanGame


class FrameShape(Protocol):
    """What any frame model's config says: pixels, and (channels, rows, columns) of a latent."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...


class FrameModel(nn.Module):
    """Encoder and generator: all that is needed once training is over.

    `encoder` takes frames (B, 3, H, W) in [-1, 1] to latents (B, *latent_shape), `generator` takes
    latents to frames, about [-1, 1] and not clamped. Both treat the items of a batch apart.
    """

    config: FrameShape
    encoder: nn.Module
    generator: nn.Module

    def decode(self, z: Tensor) -> Tensor:
        """Frames (B, 3, H, W) of latents (B, *latent_shape) that a top model made.

        As it stands this is G(z). A model whose G was trained on latents with noise can do better.
        """
        return self.generator(z)


class FrameGame(GanGame):
    """E and G against D, on batches of frames (B, 3, H, W) in [-1, 1]."""

    model: FrameModel

    @property
    def players(self) -> Sequence[Player]:
        """D moves first."""
        return (
            Player("discriminator", [self.discriminator], self.discriminator_loss, adam=True),
            Player("encoder_generator", self.encoder_generator, self.encoder_generator_loss),
        )

    @property
    def encoder_generator(self) -> list[nn.Module]:
        """All that the side of E and G moves."""
        return [self.model]

    def pixel_loss(self, x: Tensor, target: Tensor) -> Tensor:
        """How far frames are from what they should be, a scalar: `pixels` in the logs."""
        return pixel_loss(x, target)

    def encoder_generator_loss(self, x: Tensor, tick: Tick) -> tuple[Tensor, Logs]:
        """What E and G minimise."""
        raise NotImplementedError


def pixel_loss(x: Tensor, target: Tensor, *, squared: float = 1.0) -> Tensor:
    """Mean absolute plus `squared` times mean squared difference, a scalar; pixels in [-1, 1]."""
    difference = x.float() - target
    return difference.abs().mean() + squared * difference.square().mean()


def every(count: int, share: float, part: Part) -> tuple[slice, float]:
    """About a share of a whole batch, evenly spread: every (1 / share)th item, cut to one part.

    They are the same ones however the batch is split, but parts may have unlike numbers of them,
    so that means over a part's own are to be weighted.

    Args:
        count: items of the part.
        share: of the batch.
        part: of the batch.

    Returns:
        Which items of the part, at least one; and the weight of a mean over them, 1 on average
        over all parts. It is 0 where none of the batch's are in the part, whose first stands in.
    """
    stride = max(1, round(1 / share))
    first = -part.index * count % stride
    if first >= count:
        return slice(1), 0.0
    own, whole = range(first, count, stride), range(0, count * part.count, stride)
    return slice(first, None, stride), len(own) * part.count / len(whole)
