"""One update: every player's step on one batch, and what the game makes of how they went."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ldf_video.models.game import Batch, Game, Logs, Tick
from ldf_video.models.noise import Noise, Part
from ldf_video.training.gradient_step import GradientStep


@dataclass(frozen=True)
class Update:
    """All that an update is a function of, beside the weights.

    Attributes:
        step: its number, from 0.
        progress: share of the budget that is used, in [0, 1].
        kind: as the game says.
        batches: the parts of the batch that this process takes.
        seeds: of the noise of each player's step.
        rates: learning rate of each player.
    """

    step: int
    progress: float
    kind: Hashable
    batches: Sequence[Batch]
    seeds: Sequence[int]
    rates: Sequence[float]


class Players:
    """The players of a game, who take their steps one after the other."""

    def __init__(self, game: Game, steps: Sequence[GradientStep], parts: Sequence[Part]) -> None:
        """Args: the game, a step for each of its players, the parts of a batch that it takes."""
        self.game, self.steps, self.parts = game, steps, parts

    def update(self, update: Update) -> Logs:
        """Do an update; its logs."""
        self.set_rates(update)
        noises = [[Noise(seed, part) for part in self.parts] for seed in update.seeds]
        return self.play(update, update.batches, noises=noises, share=update.progress)

    def set_rates(self, update: Update) -> None:
        """Set the learning rates of an update."""
        for step, rate in zip(self.steps, update.rates, strict=True):
            step.set_rate(rate)

    def play(
        self,
        update: Update,
        batches: Sequence[Batch],
        *,
        noises: Sequence[Sequence[Noise]],
        share: float | Tensor,
    ) -> Logs:
        """Take everyone's step.

        Args:
            update: which one.
            batches: the parts of its batch.
            noises: for each player, one a part.
            share: its progress, for arithmetic.
        """
        logs: Logs = {}
        left: list[dict[str, Any]] = [{} for _ in batches]
        for step, chances in zip(self.steps, noises, strict=True):
            ticks = [
                Tick(update.step, update.progress, noise, update.kind, share, shared)
                for noise, shared in zip(chances, left, strict=True)
            ]
            logs |= step.take(list(zip(batches, ticks, strict=True)))
        self.game.after_update(logs)
        return logs
