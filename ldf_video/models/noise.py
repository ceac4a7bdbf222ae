"""The chance in one update: drawn for the whole batch, then cut.

A batch may be split over processes and, to save memory, into smaller ones after each other. Each
part draws the same numbers for the whole batch and keeps its own rows, so that a split changes
nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Rows = TypeVar("Rows", np.ndarray, Tensor)
Draw = Callable[..., Tensor]


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
    """Random numbers of one part, a function of the seed; successive calls give new ones.

    Attributes:
        part: of the batch, that it is for.
    """

    def __init__(self, seed: int, part: Part | None = None) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.part = part or Part()

    def normal(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Standard normal numbers of a shape whose first axis counts the part's own rows.

        They are drawn on the CPU, so that they are the same on every device.
        """
        return self._numbers(torch.randn, shape, device)

    def uniform(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Likewise, in [0, 1)."""
        return self._numbers(torch.rand, shape, device)

    def _numbers(self, draw: Draw, shape: tuple[int, ...], device: torch.device | None) -> Tensor:
        """The part's rows of what is drawn for the whole batch."""
        whole = (shape[0] * self.part.count, *shape[1:])
        return self.part.of(draw(whole, generator=self._generator)).to(device)


class StandingNoise(Noise):
    """Noise in memory that stays where it is, for an update that is recorded and played back.

    The first update asks for numbers, as of any `Noise`. Later ones are to ask for as many in the
    same order: they are given the same tensors, into which `renew` has written new numbers.
    """

    def __init__(self, seed: int, part: Part | None = None) -> None:
        super().__init__(seed, part)
        self._held: list[tuple[Draw, tuple[int, ...], Tensor]] = []
        self._next = 0

    def renew(self, seed: int) -> None:
        """Draw for the next update what `Noise(seed, part)` would give."""
        self._generator.manual_seed(seed)
        self._next = 0
        for draw, shape, held in self._held:
            numbers = super()._numbers(draw, shape, None)
            held.copy_(numbers.pin_memory() if held.is_cuda else numbers, non_blocking=True)

    def _numbers(self, draw: Draw, shape: tuple[int, ...], device: torch.device | None) -> Tensor:
        if self._next == len(self._held):
            self._held.append((draw, shape, super()._numbers(draw, shape, device)))
        known, its_shape, held = self._held[self._next]
        if (known, its_shape) != (draw, shape):
            raise ValueError(f"asked for {shape}, recorded {its_shape}")
        self._next += 1
        return held
