"""What a flow is told of a window beside its noise: its stride, and what led to each frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ldf_video.models.flow_config import ColumnConfig, FlowConfig


class Condition(NamedTuple):
    """What windows are like; where there is none, a flow makes what it makes at its own rate.

    Attributes:
        stride: how many frames of a clip each frame of a window is after the one before it, (B,)
            int64, or (1,) where it is the same for all.
        values: what is known of each frame, (B, T, columns), or (1, T, columns) where it is the
            same for all: a number, or the code of a name; NaN where it is not known. None where
            nothing is.
    """

    stride: Tensor
    values: Tensor | None = None

    @classmethod
    def of(
        cls, stride: int, device: torch.device | None = None, values: Tensor | None = None
    ) -> Condition:
        """The same for all windows."""
        told = None if values is None else values.to(device)
        return cls(torch.tensor([stride], device=device), told)

    def repeated(self, n: int) -> Condition:
        """Of windows that are cut in `n` rows each, which follow each other."""
        stride, values = self
        if len(stride) > 1:
            stride = stride.repeat_interleave(n)
        if values is not None:
            values = values.unflatten(1, (n, -1)).flatten(0, 1)
        return Condition(stride, values)

    def frames(self, first: int, count: int) -> Condition:
        """Of some of the frames."""
        values = self.values
        return self if values is None else Condition(self.stride, values[:, first : first + count])

    def rows(self, first: int, stop: int) -> Condition:
        """Of some of the windows."""
        values = None if self.values is None else self.values[first:stop]
        return Condition(self.stride[first:stop], values)

    def followed_by(self, later: Condition, *, most: int) -> Condition:
        """Of these frames and later ones, the newest of them."""
        if self.values is None or later.values is None:
            return self
        n = max(len(self.values), len(later.values))
        both = [values.expand(n, -1, -1) for values in (self.values, later.values)]
        return Condition(self.stride, torch.cat(both, dim=1)[:, -most:])

    def of_unknown(self, num_frames: int, num_columns: int) -> Condition:
        """With frames of which nothing is known."""
        shape = (1, num_frames, num_columns)
        return Condition(self.stride, torch.full(shape, math.nan, device=self.stride.device))

    def untold(self, where: Tensor) -> Condition:
        """The same of which nothing is known in some of the windows, (B,) bool."""
        if self.values is None:
            return self
        return Condition(self.stride, self.values.masked_fill(where[:, None, None], math.nan))


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
    """What is told as vectors, all zero before any training.

    A stride's is for whole windows. That of what is known of a frame is the sum of one for each of
    its columns: a vector for each name; for numbers one that grows with the value and one that says
    that there is a value. What is not known adds nothing.

    They are stored smaller by the square root of their width, as tokens' are in Vaswani et al.
    (2017), arXiv:1706.03762, section 3.4: steps of Adam of the size that weights need are too short
    for them.
    """

    known: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self._columns, self._scale = config.columns, math.sqrt(config.width)
        if len(config.strides) > 1:
            self.stride = nn.Embedding(len(config.strides), config.width)
            nn.init.zeros_(self.stride.weight)
            self.register_buffer("known", torch.tensor(config.strides), persistent=False)
        if config.columns:
            size = sum(column.num_features for column in config.columns)
            self.columns = nn.Parameter(torch.zeros(size, config.width))

    def forward(self, condition: Condition | None) -> Tensor | None:
        """Of strides: (B, width), or (1, width) where windows are alike; None for one stride."""
        if not hasattr(self, "stride"):
            return None
        if condition is None:
            return self._scale * self.stride.weight[:1]
        number = (condition.stride[:, None] == self.known).long().argmax(1)
        return self._scale * self.stride(number)

    def of_frames(self, condition: Condition | None) -> Tensor | None:
        """Of what is known of frames: (B, T, width), or (1, T, width); None for nothing."""
        if condition is None or condition.values is None or not self._columns:
            return None
        return self._scale * column_features(condition.values, self._columns) @ self.columns


def column_features(values: Tensor, columns: Sequence[ColumnConfig]) -> Tensor:
    """Values (..., columns) as numbers (..., features) of which those not known are 0.

    A name is one of as many numbers as there are names; a number is itself, standardised, and a 1.
    A code that is no name's is not known.
    """
    found = []
    for place, column in enumerate(columns):
        value = values[..., place]
        if column.names:
            codes = torch.arange(len(column.names), device=values.device)
            found.append((value.unsqueeze(-1) == codes).to(values.dtype))
        else:
            is_known = value.isfinite()
            scaled = (value - column.mean) / column.spread
            parts = [scaled.where(is_known, 0), is_known.to(values.dtype)]
            found.append(torch.stack(parts, dim=-1))
    return torch.cat(found, dim=-1)
