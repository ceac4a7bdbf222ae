"""What updates log: means over a line of metrics, and curves and pictures for a viewer."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker

from ldf_video.errors import UsageError
from ldf_video.models.game import Logs

TRACKERS = ("tensorboard",)


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
    """Passes on what a run logs to an Accelerate tracker; with the name None it does nothing.

    TensorBoard's files lie in `DIRECTORY/tensorboard`.
    """

    def __init__(
        self, name: str | None, accelerator: Accelerator, directory: Path, *, step: int
    ) -> None:
        """Open a tracker at an update; what an earlier sitting logged of later ones is dropped."""
        check_tracker(name)
        self._tracker: TensorBoardTracker | None = None
        if name is not None and accelerator.is_main_process:
            self._tracker = TensorBoardTracker(name, str(directory), purge_step=step + 1)
            self._tracker.start()

    def log(self, values: dict[str, float], *, step: int) -> None:
        """Add points to curves."""
        if self._tracker is not None:
            self._tracker.log(values, step=step)

    def show(self, name: str, picture: npt.NDArray[np.uint8], *, step: int) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        if self._tracker is not None:
            self._tracker.log_images({name: picture[None]}, step=step, dataformats="NHWC")

    def close(self) -> None:
        """Write out what is still buffered."""
        if self._tracker is not None:
            self._tracker.finish()
