"""The chance in one update: drawn for the whole batch, then cut.

A batch may be split over processes and, to save memory, into smaller ones after each other. Each
part draws the same numbers for the whole batch and keeps its own rows, so that a split changes
nothing but rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Rows = TypeVar("Rows", np.ndarray, Tensor)


@dataclass(frozen=True)
class Part:
    """One of `count` equal parts of a batch, `index` counted from 0."""

    index: int = 0
    count: int = 1

    def of(self, rows: Rows) -> Rows:
        """Its rows among those of the whole batch.

        Raises:
            ValueError: they cannot be divided so.
        """
        size, rest = divmod(len(rows), self.count)
        if rest:
            raise ValueError(f"{len(rows)} rows: expected a multiple of {self.count}")
        return rows[self.index * size : (self.index + 1) * size]


class Noise:
    """Random numbers of one part, a function of the seed; successive calls give new ones."""

    def __init__(self, seed: int, part: Part | None = None) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._part = part or Part()

    def normal(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Standard normal numbers of a shape whose first axis counts the part's own rows.

        They are drawn on the CPU, so that they are the same on every device.
        """
        drawn = torch.randn(self._whole(shape), generator=self._generator)
        return self._part.of(drawn).to(device)

    def uniform(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Likewise, in [0, 1)."""
        drawn = torch.rand(self._whole(shape), generator=self._generator)
        return self._part.of(drawn).to(device)

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self._part.count, *shape[1:])
