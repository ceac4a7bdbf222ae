"""What is trained, as the loop sees it, and for how long it has been."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.models.game import Batch, Game
from ldf_video.models.noise import Part


class Level(Protocol):
    """What a level of the hierarchy gives to the loop: a game, and data to play it on."""

    @property
    def game(self) -> Game:
        """The networks and their losses."""
        ...

    @property
    def score(self) -> str:
        """Which value of `evaluate` decides between checkpoints; the lower the better."""
        ...

    def batch(self, step: int, part: Part, device: torch.device) -> Batch:
        """One part of the batch of an update; after a restart another number stands for it."""

    def calibration(self, device: torch.device) -> Batch:
        """A large batch, always the same, for `Game.calibrate`."""

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """Losses on data that is never trained on; nothing where there is none."""

    def describe(self, model: Any, values: Mapping[str, float]) -> str:
        """How good a model is, in a few words with units, from what `evaluate` gave."""

    def draw(self, model: Any, path: Path) -> npt.NDArray[np.uint8] | None:
        """Write what a model does to `path`.png and beside it; the picture (H, W, 3), if any."""


@dataclass
class Clock:
    """Training time over all sittings, in seconds."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Of this sitting and those before."""
        return self.before + time.monotonic() - self.started
