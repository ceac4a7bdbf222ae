"""How far clips are from the nearest training clip: a copy is nearer than new clips are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Clips = npt.NDArray[np.uint8]
Distances = npt.NDArray[np.float64]

MAX_CLIPS = 1000
"""Of each set that are looked up: each is compared with every training clip."""
REAL_PERCENTILE = 1
_TRAIN_CLIPS = 256
_LOOKED_UP = 250
_ROUNDING = 0.1
"""Squared levels: far more than float products lose."""


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training clip, root mean square over a clip, in levels of 255.

    Attributes:
        median_levels: of the judged clips.
        real_median_levels: of real clips that were not trained on.
        copied_percent: judged clips as near as, or nearer than, the nearest percent of the real
            ones: 1 by chance; more where judged clips copy.
    """

    median_levels: float
    real_median_levels: float
    copied_percent: float


def compare(judged: Distances, real: Distances) -> Memorisation:
    """Sum up distances (N,) of judged clips beside those (M,) of held-out real ones."""
    nearest = np.percentile(real, REAL_PERCENTILE, method="lower")
    return Memorisation(
        median_levels=float(np.median(judged)),
        real_median_levels=float(np.median(real)),
        copied_percent=100 * float((judged <= nearest).mean()),
    )


def evenly_spread(clips: Clips) -> Clips:
    """At most MAX_CLIPS of clips (N, ...), evenly spread."""
    if len(clips) <= MAX_CLIPS:
        return clips
    return clips[np.linspace(0, len(clips) - 1, MAX_CLIPS).round().astype(int)]


@torch.inference_mode()
def nearest_levels(
    sets: Mapping[str, Clips],
    train: Iterable[Clips],
    *,
    device: str = "cpu",
    on_block: Callable[[int], None] = lambda count: None,
) -> dict[str, Distances]:
    """The distance of each clip to the nearest training clip, frame by frame and pixel by pixel.

    Args:
        sets: clips uint8 (N, T, H, W, 3) by name.
        train: clips (T, H, W, 3) that were trained on, read once, at least one.
        device: where to compute.
        on_block: called with the number of training clips done.

    Returns:
        Root mean square differences in levels of 255, (N,) by name; exact.
    """
    nearest = {name: np.full(len(clips), np.inf) for name, clips in sets.items()}
    done = 0
    for block in _blocks(train):
        there = _vectors(block, device)
        for name, clips in sets.items():
            for start in range(0, len(clips), _LOOKED_UP):
                part = clips[start : start + _LOOKED_UP]
                best = nearest[name][start : start + len(part)]
                _improve(best, part, block, there)
        done += len(block)
        on_block(done)
    return {name: np.sqrt(squared) for name, squared in nearest.items()}


def _improve(best: Distances, clips: Clips, block: Clips, there: torch.Tensor) -> None:
    """Lower mean squared differences (N,), in squared levels, where a block has a nearer clip.

    Float products find which one is nearest, whole numbers say how near: a copy is at 0.
    """
    here = _vectors(clips, there.device)
    squared = here.square().sum(1)[:, None] + there.square().sum(1) - 2 * here @ there.T
    about, nearest = (squared / here.shape[1]).min(1)
    (rows,) = np.nonzero(about.cpu().numpy() < best + _ROUNDING)
    difference = clips[rows].astype(np.int32) - block[nearest.cpu().numpy()[rows]]
    exact = np.square(difference).mean((1, 2, 3, 4))
    best[rows] = np.minimum(best[rows], exact)


def _vectors(clips: Clips, device: torch.device | str) -> torch.Tensor:
    """Clips as rows of floats about the middle level, so that products lose few digits."""
    flat = np.ascontiguousarray(clips).reshape(len(clips), -1)
    return torch.from_numpy(flat).to(device).float().sub_(127.5)


def _blocks(clips: Iterable[Clips]) -> Iterator[Clips]:
    block: list[Clips] = []
    for clip in clips:
        block.append(clip)
        if len(block) == _TRAIN_CLIPS:
            yield np.stack(block)
            block.clear()
    if block:
        yield np.stack(block)
