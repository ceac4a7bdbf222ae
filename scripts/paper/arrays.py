"""No command: the two levels' data from arrays in memory, where an experiment needs no store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiment import Clips
from numpy.typing import NDArray
from torch import Tensor

from ldf_video.models.condition import Windows
from ldf_video.models.game import Game, Part
from ldf_video.training.update import frame_indices


class FramesOf:
    """The frames of clips (N, T, H, W, 3) by number, as `FrameLevel` takes them."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips

    @property
    def num_frames(self) -> int:
        return self._clips.shape[0] * self._clips.shape[1]

    def frames_at(self, numbers: NDArray[Any]) -> Clips:
        """Frames (n, H, W, 3)."""
        clip, frame = np.divmod(numbers, self._clips.shape[1])
        return self._clips[clip, frame]


class WindowsOf:
    """The upper level on latents (N, T, C, H, W) that are all as long as the top model's window."""

    score = "none"

    def __init__(self, game: Game, latents: Tensor, *, batch_size: int, seed: int) -> None:
        self.game, self.latents = game, latents
        self.batch_size, self.seed = batch_size, seed

    def batch(self, step: int, part: Part, device: torch.device) -> Windows:
        """Random clips' latents."""
        numbers = part.rows(
            frame_indices(self.seed, step, num_frames=len(self.latents), batch_size=self.batch_size)
        )
        return windows_of(self.latents[torch.from_numpy(numbers)].to(device))

    def calibration(self, device: torch.device) -> None:
        """It has no batch statistics."""

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """It is measured by what it makes."""
        return {}

    def describe(self, model: Any, values: Mapping[str, float]) -> str:
        """Nothing is known while it trains."""
        return ""

    def draw(self, model: Any, path: Path) -> None:
        """Nothing is drawn while it trains."""


def windows_of(latents: Tensor) -> Windows:
    """A batch of latents (B, T, C, H, W) of which every frame is real."""
    return Windows(latents, torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device))
