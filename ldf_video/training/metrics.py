"""What updates log: means over a line, curves and pictures for a viewer, and who stops a breakdown.

The guard judges the means over a line of metrics.jsonl, so that no update waits for the device, and
over all processes, so that all of them decide alike. What was saved before a breakdown stays.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import LdfError, UsageError
from ldf_video.models.game import Logs

TRACKERS = ("tensorboard",)
SETTLE, MEMORY, PATIENCE = 25, 16, 5
"""Lines before values are judged, lines that they are compared with, high lines that end a run."""
NORM = "gradient_norm/"
LOSS_FACTOR, NORM_FACTOR = 2.0, 30.0
"""A loss or the norm of a gradient is high above so many times the median of the latest lines..."""
DEVIATIONS = 6.0
"""...and above so many of their standard deviations, in logarithms."""


def means_of(logs: Sequence[Logs]) -> dict[str, float]:
    """The mean of each name over the updates that logged it; waits for the device."""
    return {
        name: torch.stack([each[name].float() for each in logs if name in each]).mean().item()
        for name in sorted({name for each in logs for name in each})
    }


def check_tracker(name: str | None) -> None:
    """Check that a tracker can be had; None is none.

    Raises:
        UsageError: there is none of that name, or its package is not installed.
    """
    if name is not None and name not in TRACKERS:
        raise UsageError(f"--tracker {name}: expected {' or '.join(TRACKERS)}")
    if name is not None and importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            f"--tracker {name}: it is not installed: pip install 'ldf-video[tensorboard]'"
        )


class Tracker:
    """Writes what a run logs for TensorBoard, to `DIRECTORY/tensorboard`; None does nothing."""

    def __init__(self, name: str | None, directory: Path, *, step: int) -> None:
        """Open a tracker at an update; what an earlier sitting logged of later ones is dropped."""
        check_tracker(name)
        self._writer: Any = None
        if name is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(directory / name, purge_step=step + 1)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Add points to curves."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def show(self, name: str, picture: npt.NDArray[np.uint8], *, step: int) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is still buffered."""
        if self._writer is not None:
            self._writer.close()


class BreakdownError(LdfError):
    """A training cannot go on from where it is."""

    def __init__(self, why: str, *, step: int) -> None:
        super().__init__(
            f"training broke down at step {step}: {why}; --no-resume with a lower "
            "--learning-rate starts anew and keeps this run aside"
        )


def check_finite(means: Mapping[str, float], *, step: int) -> None:
    """Check that all values are finite; where one is not, the weights are not either.

    Raises:
        BreakdownError: one is not.
    """
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise BreakdownError(f"{', '.join(broken)} not finite", step=step)


class Guard:
    """Judges a training line by line: `loss` is the logged value that should fall."""

    def __init__(self, loss: str) -> None:
        self._loss = loss
        self._lines = self._high_lines = 0
        self._latest: dict[str, deque[float]] = {}

    def check(self, means: Mapping[str, float], *, step: int) -> None:
        """Judge a line that ends with update number `step`.

        Raises:
            BreakdownError: a value is not finite, or some were high in PATIENCE lines in a row.
        """
        check_finite(means, step=step)
        watched = [n for n in means if n == self._loss or n.startswith(NORM)]
        if any(name not in self._latest for name in watched):  # a player has joined
            self._lines = self._high_lines = 0
            self._latest.clear()
        high = self.high(means)
        self._lines += 1
        for name in watched:
            self._latest.setdefault(name, deque(maxlen=MEMORY)).append(means[name])
        self._high_lines = self._high_lines + 1 if high else 0
        if self._high_lines >= PATIENCE:
            raise BreakdownError(f"{', '.join(high)} far above what it was", step=step)

    def high(self, means: Mapping[str, float]) -> list[str]:
        """Names of the values that are far above the latest ones."""
        if self._lines < SETTLE:
            return []
        return [name for name in self._latest if means.get(name, 0.0) > self._bound(name)]

    def is_well(self, means: Mapping[str, float]) -> bool:
        """Whether the state after these values may replace the one that was saved last."""
        finite = all(map(math.isfinite, means.values()))
        return finite and not self._high_lines and not self.high(means)

    def settle(self) -> None:
        """Judge nothing until there are new lines: the learning rate rises, and losses may."""
        self._latest.clear()

    def _bound(self, name: str) -> float:
        """Median times a factor, or more where the latest values vary much."""
        latest = self._latest[name]
        if len(latest) < MEMORY or min(latest) <= 0:
            return math.inf
        logs = [math.log(value) for value in latest]
        middle = statistics.median(logs)
        # 1.4826 times the median deviation is a normal distribution's standard deviation
        scale = 1.4826 * statistics.median(abs(value - middle) for value in logs)
        factor = NORM_FACTOR if name.startswith(NORM) else LOSS_FACTOR
        return math.exp(middle + max(math.log(factor), DEVIATIONS * scale))

    def state_dict(self) -> dict[str, Any]:
        """Numbers, as a saved state keeps them."""
        latest = {name: list(values) for name, values in self._latest.items()}
        return {"lines": self._lines, "seen": latest, "high": self._high_lines}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state's numbers."""
        self._lines, self._high_lines = state["lines"], state["high"]
        self._latest = {n: deque(values, maxlen=MEMORY) for n, values in state["seen"].items()}
