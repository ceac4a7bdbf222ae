"""A store of latents as a top model's training sees it: opened, its statistics, its shape."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ldf_video.errors import StoreError
from ldf_video.store.reader import StoreReader
from ldf_video.training.update import frame_indices

STATISTICS_FRAMES = 65_536
"""Frames from which the mean and spread of latents are taken at most."""


def open_latents(path: Path) -> StoreReader:
    """Open a store of latents that holds something.

    Raises:
        StoreError: it does not exist, is of another kind, or is empty.
    """
    if not path.exists():
        raise StoreError(f"no latents at {path}: run ldf-video encode CLIPS first")
    reader = StoreReader(path)
    if reader.spec.kind != "latents":
        raise StoreError(f"{path} holds {reader.spec.kind}, expected latents")
    if not reader.num_frames:
        raise StoreError(f"{path} holds no finished clip: run ldf-video encode CLIPS first")
    return reader


def latent_statistics(reader: StoreReader, *, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents, each (C, H, W): of all, or of a random sample."""
    count = min(STATISTICS_FRAMES, reader.num_frames)
    indices = np.arange(count)
    if count < reader.num_frames:
        indices = frame_indices(seed, 0, num_frames=reader.num_frames, batch_size=count)
    total = np.zeros(reader.spec.item_shape)
    squares = np.zeros(reader.spec.item_shape)
    for part in np.array_split(np.sort(indices), max(1, count // 4096)):
        rows = reader.frames_at(part).astype(np.float64)
        total += rows.sum(0)
        squares += np.square(rows).sum(0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def latent_shape(reader: StoreReader) -> tuple[int, int, int]:
    """Channels, rows and columns of one frame's latent."""
    channels, rows, columns = reader.spec.item_shape
    return channels, rows, columns


def usual_fps(reader: StoreReader) -> Fraction:
    """The middle of (at most a thousand) clips' frame rates."""
    some = np.linspace(0, reader.num_clips - 1, min(reader.num_clips, 1000)).astype(int)
    rates = sorted(reader.fps(int(clip)) for clip in some)
    return rates[len(rates) // 2]
