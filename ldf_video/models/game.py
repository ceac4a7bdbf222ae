"""What every training here is: players who take turns on the same batch, each with a loss.

The random numbers of an update are drawn for the whole batch, then cut. A batch may be split over
processes and, to save memory, into smaller ones after each other: each part draws the same numbers
and keeps its own rows, so that a split changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Logs = dict[str, Tensor]
Batch = Any
Rows = TypeVar("Rows", np.ndarray, Tensor)
Draw = Callable[..., Tensor]


@dataclass(frozen=True)
class Part:
    """One of `count` equal parts of a batch, `index` counted from 0."""

    index: int = 0
    count: int = 1

    def rows(self, whole: Rows) -> Rows:
        """The part's rows among those of the whole batch, which must divide so."""
        size, rest = divmod(len(whole), self.count)
        if rest:
            raise ValueError(f"{len(whole)} rows: expected a multiple of {self.count}")
        return whole[self.index * size : (self.index + 1) * size]


class Noise:
    """Random numbers for `part` of a batch, a function of the seed; each call gives new ones."""

    def __init__(self, seed: int, part: Part | None = None) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.seed, self.part = seed, part or Part()

    def normal(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Standard normal numbers of a shape whose first axis counts the part's own rows.

        They are drawn on the CPU, so that they are the same on every device.
        """
        return self._numbers(torch.randn, shape, device)

    def uniform(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Uniform numbers in [0, 1), likewise."""
        return self._numbers(torch.rand, shape, device)

    def _numbers(self, draw: Draw, shape: tuple[int, ...], device: torch.device | None) -> Tensor:
        whole = (shape[0] * self.part.count, *shape[1:])
        return self.part.rows(draw(whole, generator=self._generator)).to(device)


class StaticNoise(Noise):
    """Noise in memory that stays where it is, for an update that is recorded and played back.

    The first update asks for numbers, as of any `Noise`. Later updates must ask for as many in the
    same order: they get the same tensors, into which `renew` has written new numbers.
    """

    def __init__(self, seed: int, part: Part | None = None) -> None:
        super().__init__(seed, part)
        self._drawn: list[tuple[Draw, tuple[int, ...], Tensor]] = []
        self._next = 0

    def renew(self, seed: int) -> None:
        """Draw for the next update what `Noise(seed, part)` would give."""
        self._generator.manual_seed(seed)
        self._next = 0
        for draw, shape, static in self._drawn:
            numbers = super()._numbers(draw, shape, None)
            static.copy_(numbers.pin_memory() if static.is_cuda else numbers, non_blocking=True)

    def _numbers(self, draw: Draw, shape: tuple[int, ...], device: torch.device | None) -> Tensor:
        if self._next == len(self._drawn):
            self._drawn.append((draw, shape, super()._numbers(draw, shape, device)))
        recorded_draw, recorded_shape, static = self._drawn[self._next]
        if (recorded_draw, recorded_shape) != (draw, shape):
            raise ValueError(f"asked for {shape}, recorded {recorded_shape}")
        self._next += 1
        return static


@dataclass(frozen=True)
class Tick:
    """What a loss may depend on beside its batch: where the training is, and random numbers.

    Attributes:
        progress: share of the budget that is used, in [0, 1]: a float, or a scalar on the device
            where the update is recorded and played back, and no number may be part of it.
        noise: random numbers of this player's step, for this part of the batch.
        kind: of the update, as `Game.kind` said.
        passed_on: what earlier players of this update hand to later ones, for this part of the
            batch: tensors without a graph, and numbers.
    """

    progress: float | Tensor
    noise: Noise
    kind: Any
    passed_on: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Player:
    """One side of a game: the networks that its step moves, and the loss that it minimises.

    Attributes:
        name: for logs.
        networks: those that move; gradients reach no others.
        loss: from a batch and a tick to a scalar, a mean over items, and what to log. A scalar
            without a gradient means that the player sits this update out.
        rate: its learning rate, as a share of the training's.
        adam: always use Adam for this player, even with `--optimizer muon`: a game's balance
            depends on how fast its discriminator learns.
    """

    name: str
    networks: Sequence[nn.Module]
    loss: Callable[[Batch, Tick], tuple[Tensor, Logs]]
    rate: float = 1.0
    adam: bool = False


class Game(nn.Module):
    """All networks of one training; the averaged weights of `model` are kept."""

    model: nn.Module

    @property
    def players(self) -> Sequence[Player]:
        """Who moves, in turn."""
        raise NotImplementedError

    def kind(self, step: int, progress: float) -> Hashable:
        """The kind of update `step` at `progress` in [0, 1]; may wait for the device.

        Two updates of one kind do the same arithmetic on other numbers, so that a device may record
        one and play it back. None, as by default: updates are not recorded.
        """
        return None

    def after_update(self, logs: Logs) -> None:
        """Adapt to an update's logs, which are means over the whole batch; nothing by default."""

    def calibrate(self, model: Any, batch: Batch) -> None:
        """Fit what in a model with averaged weights depends on some real data, a batch."""
