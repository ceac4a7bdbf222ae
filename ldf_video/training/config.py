"""How a level is trained: budget, learning rate, parts of a batch; when the loop reports."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ldf_video.errors import UsageError
from ldf_video.models.game import Part
from ldf_video.training.ranks import Ranks

WARMUP_SHARE = 0.1
"""Of the budget, after which the learning rate has risen in any case: runs may be short."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a level is trained, beside what is trained.

    Attributes:
        steps: updates in all, or None where minutes rule.
        minutes: time in all, or None where steps rule.
        learning_rate: of Adam, after the warm-up.
        warmup_steps: over which it rises, or the first tenth of the budget if that is shorter.
        cooldown: last share of the budget, over which it falls to a twentieth.
        average: decay of the averaged weights.
        gradient_norm: largest norm of a player's gradient.
        accumulate: parts of a batch that are taken one after the other, to save memory.
        gradient_checkpointing: compute inner results twice instead of keeping them.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    learning_rate: float
    beta1: float = 0.5
    beta2: float = 0.99
    warmup_steps: int = 100
    cooldown: float = 0.4
    average: float = 0.999
    gradient_norm: float = 10.0
    optimizer: str = "adam"  # of runs that began before it was an option
    accumulate: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("expected either steps or minutes")

    def progress(self, *, step: int, elapsed_seconds: float) -> float:
        """Share of the budget used when update `step` starts, in [0, 1]."""
        return share_of_budget(self.steps, self.minutes, step=step, elapsed_seconds=elapsed_seconds)

    def rate(self, *, step: int, progress: float) -> float:
        """Learning rate of an update: warm-up, plateau, cosine cool-down."""
        warm = min(max((step + 1) / self.warmup_steps, progress / WARMUP_SHARE), 1.0)
        cooling = min((1 - progress) / self.cooldown, 1.0)
        return self.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 - math.cos(math.pi * cooling)))

    def parts(self, ranks: Ranks) -> list[Part]:
        """The parts of each batch that a process takes, one after the other.

        Raises:
            UsageError: a batch cannot be divided over the processes and into parts.
        """
        count = ranks.count * self.accumulate
        if self.batch_size % count:
            shared = f" and {ranks.count} processes" if ranks.count > 1 else ""
            raise UsageError(
                f"--batch-size {self.batch_size} with --accumulate {self.accumulate}{shared}: "
                f"expected a multiple of {count}"
            )
        return [Part(ranks.index * self.accumulate + i, count) for i in range(self.accumulate)]


def share_of_budget(
    steps: int | None, minutes: float | None, *, step: int, elapsed_seconds: float
) -> float:
    """Share of a budget, of steps or else of minutes, that is used when update `step` starts."""
    if steps is not None:
        return min(step / steps, 1.0)
    assert minutes is not None
    return min(elapsed_seconds / (60 * minutes), 1.0)


@dataclass(frozen=True)
class Cadence:
    """When the loop does what is not training. Seconds, as runs differ in speed.

    Attributes:
        save_seconds: between saved states.
        sheet_seconds: between pictures, and losses on held-out data.
        log_steps: updates averaged in a line of metrics.jsonl.
    """

    save_seconds: float = 60.0
    sheet_seconds: float = 120.0
    log_steps: int = 20
