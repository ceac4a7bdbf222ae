"""What every frame model is, whatever its networks: E and G of single frames, and their game."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ldf_video.models.game import Part
from ldf_video.models.gan import GanGame
from ldf_video.models.losses import pixel_loss


@dataclass(frozen=True)
class FrameConfig:
    """The size of a frame in pixels, which the shape of any frame model begins with."""

    height: int = 32
    width: int = 32

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of one frame's latent."""
        raise NotImplementedError


class FrameModel(nn.Module):
    """Encoder and generator: all that is needed once training is over.

    `encoder` takes frames (B, 3, H, W) in [-1, 1] to latents (B, *latent_shape), `generator` takes
    latents to frames, about [-1, 1] and not clamped. Both treat the items of a batch apart.
    """

    config: FrameConfig
    encoder: nn.Module
    generator: nn.Module

    def __init__(self, config: FrameConfig, encoder: nn.Module, generator: nn.Module) -> None:
        super().__init__()
        self.config, self.encoder, self.generator = config, encoder, generator

    @property
    def hold(self) -> int:
        """Levels of 255 within which a pixel of a generated video is shown as it was before."""
        return 0

    def decode(self, z: Tensor) -> Tensor:
        """Frames (B, 3, H, W) of latents (B, *latent_shape) that a top model made.

        As it stands this is G(z). A model whose G was trained on latents with noise can do better.
        """
        return self.generator(z)


class FrameGame(GanGame):
    """E and G against D, on batches of frames (B, 3, H, W) in [-1, 1]."""

    model: FrameModel

    def pixel_loss(self, x: Tensor, target: Tensor) -> Tensor:
        """How far frames are from what they should be, a scalar: `pixels` in the logs."""
        return pixel_loss(x, target)


def every(count: int, share: float, part: Part) -> tuple[slice, float]:
    """About a share of a whole batch, evenly spread: every (1 / share)th item, cut to one part.

    They are the same ones however the batch is split, but parts, of `count` items each, may have
    unlike numbers of them, so that means over a part's own are to be weighted.

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
