"""A judge small enough for tests, as TorchScript, and clips that it can tell apart."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


class FrameFeatures(nn.Module):
    """Random convolutions of levels in [0, 255], mean over space."""

    def __init__(self, num_features: int = 24, size: int = 32) -> None:
        super().__init__()
        self.size = size
        self.first = nn.Conv2d(3, 16, 5, stride=2)
        self.second = nn.Conv2d(16, num_features, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, num_features)."""
        hidden = torch.relu(self.first((x - 127) / 32))
        return torch.relu(self.second(hidden)).mean(dim=(2, 3))


class ClipFeatures(nn.Module):
    """Random convolutions over space and time, as an I3D has; with an I3D's switches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(3, 12, 3, stride=2)

    def forward(self, x: Tensor, rescale: bool = False, return_features: bool = False) -> Tensor:
        """(B, 3, T, H, W) -> (B, 12, t, h, w), or logits that are no features."""
        assert rescale
        if not return_features:
            return torch.zeros(len(x), 3)
        return torch.relu(self.layer((x - 127) / 32))


def write_judge(path: Path, network: nn.Module | None = None, *, seed: int = 0) -> Path:
    """Write a network as TorchScript; its weights follow from the seed."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        for kind in (DeprecationWarning, FutureWarning):  # the latter from torch 2.14 on
            warnings.filterwarnings("ignore", r".*torch\.jit\.", kind)
        network = FrameFeatures() if network is None else network
        for weight in network.parameters():
            nn.init.normal_(weight, std=0.3)
        torch.jit.script(network.eval()).save(str(path))
    return path


def moving_clips(count: int, *, seed: int = 0, side: int = 32, num_frames: int = 5) -> np.ndarray:
    """Clips uint8 (N, T, side, side, 3): a bright square that drifts over still stripes."""
    rng = np.random.default_rng(seed)
    clips = np.empty((count, num_frames, side, side, 3), np.uint8)
    grid = np.arange(side)
    for clip in clips:
        stripes = (grid // rng.integers(2, 6)) % 2
        ground = np.where(stripes[:, None, None], rng.integers(0, 120, 3), rng.integers(0, 120, 3))
        clip[:] = ground if rng.random() < 0.5 else ground.reshape(1, side, 3)
        place, step = rng.integers(4, side - 4, 2), rng.integers(-3, 4, 2)
        colour = rng.integers(150, 256, 3)
        for number, frame in enumerate(clip):
            top, left = (place + number * step) % (side - 8)
            frame[top : top + 8, left : left + 8] = colour
    return clips
