"""What a few updates logged, until it becomes a line of metrics.

Curves and pictures of a run for a viewer, through Accelerate's trackers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker

from ldf_video.errors import UsageError
from ldf_video.models.game import Logs


class Recent:
    """What was logged since the last line of metrics; on the device until it is asked for."""

    def __init__(self) -> None:
        self._logs: list[Logs] = []

    def add(self, logs: Logs) -> None:
        """Take an update's."""
        self._logs.append(logs)

    def means(self) -> dict[str, float]:
        """Of each name over the updates that logged it; waits for the device."""
        names = {name for logs in self._logs for name in logs}
        return {
            name: torch.stack([e[name].float() for e in self._logs if name in e]).mean().item()
            for name in sorted(names)
        }

    def clear(self) -> None:
        """Begin a new line."""
        self._logs.clear()


TRACKERS = ("tensorboard",)


def check_tracker(name: str | None) -> None:
    """See that a tracker can be had; None is none.

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
    """Passes on what a run logs; with the name None it does nothing.

    TensorBoard's files lie in `DIRECTORY/tensorboard`.
    """

    def __init__(
        self, name: str | None, accelerator: Accelerator, directory: Path, *, step: int
    ) -> None:
        """Open a tracker at an update; what an earlier sitting told of later ones is dropped."""
        check_tracker(name)
        self._tracker: TensorBoardTracker | None = None
        if name is not None and accelerator.is_main_process:
            self._tracker = TensorBoardTracker(name, str(directory), purge_step=step + 1)
            self._tracker.start()

    def log(self, values: dict[str, float], *, step: int) -> None:
        """Points of curves."""
        if self._tracker is not None:
            self._tracker.log(values, step=step)

    def show(self, name: str, picture: npt.NDArray[np.uint8], *, step: int) -> None:
        """A picture, uint8 (H, W, 3)."""
        if self._tracker is not None:
            self._tracker.log_images({name: picture[None]}, step=step, dataformats="NHWC")

    def close(self) -> None:
        """Write out what is left."""
        if self._tracker is not None:
            self._tracker.finish()
