"""What a flow is told of a window beside its frames: how far apart they are in time."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Condition(NamedTuple):
    """What windows are like; where there is none, a flow makes what it makes at its own rate.

    Attributes:
        stride: how many frames of a clip each frame of a window is after the one before it, (B,)
            int64, or (1,) where it is the same for all.
    """

    stride: Tensor

    @classmethod
    def of(cls, stride: int, device: torch.device | None = None) -> Condition:
        """The same for all windows."""
        return cls(torch.tensor([stride], device=device))

    def repeated(self, n: int) -> Condition:
        """Of windows that are cut in `n` rows each, which follow each other."""
        return self if len(self.stride) == 1 else Condition(self.stride.repeat_interleave(n))


class Windows(NamedTuple):
    """A batch of the upper level.

    Attributes:
        latents: (B, window, C, H, W).
        mask: (B, window) bool, True where a frame is real; real frames come first.
        condition: what a flow is told of them.
    """

    latents: Tensor
    mask: Tensor
    condition: Condition | None = None


class ConditionFeatures(nn.Module):
    """A learned vector for each stride, zero before any training.

    It is stored smaller by the square root of its width, as tokens' are in Vaswani et al. (2017),
    arXiv:1706.03762, section 3.4: steps of Adam of the size that weights need are too short for it.
    """

    known: Tensor

    def __init__(self, strides: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stride, self._scale = nn.Embedding(len(strides), width), math.sqrt(width)
        nn.init.zeros_(self.stride.weight)
        self.register_buffer("known", torch.tensor(strides), persistent=False)

    def forward(self, condition: Condition | None) -> Tensor:
        """(B, width), or (1, width) where windows are alike."""
        if condition is None:
            return self._scale * self.stride.weight[:1]
        number = (condition.stride[:, None] == self.known).long().argmax(1)
        return self._scale * self.stride(number)
