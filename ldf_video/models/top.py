"""What every top model is, whatever its kind: a source of latent sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ldf_video.models.flow_config import ColumnConfig
from ldf_video.models.rollout import Rollout

LEAST_SPREAD = 0.1


class TopShape(Protocol):
    """What any top model's config says: (channels, rows, columns) of a latent, frames at once."""

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...

    @property
    def window(self) -> int: ...


class TopModel(nn.Module):
    """Generates latent sequences. Latents are standardised inside.

    The buffers `latent_mean` and `latent_std`, of a latent's shape, hold the statistics of the
    training latents and travel with the weights.
    """

    config: TopShape
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: TopShape) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("latent_mean", torch.zeros(config.latent_shape))
        self.register_buffer("latent_std", torch.ones(config.latent_shape))

    @property
    def fixed_frames(self) -> int | None:
        """The one number of frames that it makes, or None where it makes any."""
        return None

    @property
    def strides(self) -> tuple[int, ...]:
        """How far apart in time its frames may be, in frames of the clips that it learned."""
        return (1,)

    @property
    def columns(self) -> tuple[ColumnConfig, ...]:
        """What it may be told of each frame."""
        return ()

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set what latents are standardised by; both of a latent's shape, std at least 0.

        A number that hardly varies, as behind a letterbox, counts as varying by LEAST_SPREAD of the
        mean spread: other clips may differ there. (Of the mean and not the median: what stands
        still may be most of a frame.)
        """
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std.clamp_min(max(LEAST_SPREAD * std.mean().item(), 1e-4)))

    def standardise(self, latents: Tensor) -> Tensor:
        """Latents (..., C, H, W) -> tokens (..., C * H * W) of mean 0 and spread 1."""
        return ((latents - self.latent_mean) / self.latent_std).flatten(-3)

    def restore(self, tokens: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        latents = tokens.unflatten(-1, self.config.latent_shape)
        return latents * self.latent_std + self.latent_mean

    def sample(self, rollout: Rollout, generators: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Generate sequences, a block of frames at a time.

        Args:
            rollout: what to make: `fixed_frames` after nothing, with none given, where that is a
                number.
            generators: one a video, N of them: the only source of chance.

        Yields:
            Latents (N, some, C, H, W), float32, `num_frames` of them in all.

        Raises:
            ValueError: it cannot make that; see `check_stride` for one reason.
        """
        raise NotImplementedError

    def check_stride(self, rollout: Rollout) -> None:
        """Refuse a stride that it does not know, and conditions, by a ValueError."""
        if rollout.stride not in self.strides:
            known = " or ".join(map(str, self.strides))
            raise ValueError(f"stride {rollout.stride}: expected {known}")
        if rollout.conditions is not None and not self.columns:
            raise ValueError("conditions: expected none, as it was told of none when it learned")
