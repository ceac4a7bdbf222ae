"""The figures of one set of clips against a reference, against training clips, and of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.evaluation.clouds import Cloud, Diversity, Estimate, difference, diversity, frechet
from ldf_video.evaluation.judge import Judge, judge_clips
from ldf_video.evaluation.reference import VIEWS, Reference

Clips = npt.NDArray[np.uint8]
Distances = npt.NDArray[np.float64]

CHANGED_LEVELS = 40
"""A pixel that differs by more than this in any colour has changed, of 255."""
STILL_SHARE = 0.001
CLIPS_AT_ONCE = 256
MOST_LOOKED_UP = 1000
"""Clips of each set: each is compared with every training clip."""
LOOKED_UP_AT_ONCE = 250
REAL_PERCENTILE = 1
ROUNDING = 0.1
"""Squared levels: far more than float products lose."""


@dataclass(frozen=True)
class Change:
    """How clips change from frame to frame."""

    moving_percent: float  # pixels that differ visibly from the frame before
    still_clips_percent: float  # clips in which under 0.1 % of the pixels do: frozen ones, too
    flicker_levels: float
    """Mean absolute difference of the pixels that do not move, of 255: 0 where a background stands
    still, and where every pixel moves."""


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training clip, root mean square over a clip, in levels of 255."""

    median_levels: float
    real_median_levels: float  # of real clips that were not trained on
    copied_percent: float
    """Judged clips as near as, or nearer than, the nearest percent of the real ones: 1 by chance;
    more where judged clips copy."""


@dataclass(frozen=True)
class Figures:
    """What is known of a set of clips; None where a figure does not apply."""

    num_clips: int
    frame: Estimate | None = None  # Frechet distance of the clips' first frames
    video: Estimate | None = None  # of their frames together
    motion: Estimate | None = None  # of the differences of successive frames
    video_plus: Estimate | None = None  # on directions that also hold what real frames never have
    diversity: Diversity | None = None
    change: Change | None = None
    psnr_db: float | None = None  # of reconstructions, the squared error of all frames pooled
    memorisation: Memorisation | None = None


def measure(
    reference: Reference,
    clips: Clips,
    judge: Judge,
    *,
    on_frames: Callable[[int], None] = lambda count: None,
) -> Figures:
    """Judge clips (N, T, H, W, 3), T and size as the reference's, and compare them with it.

    Of single frames (T = 1) only the frame figure is measured. Neighbours in time, where clips have
    any, stand side by side. `on_frames` is called with the number of frames judged.

    Raises:
        LdfError: judge or shape are not the reference's.
        ValueError: fewer than 20 clips.
    """
    reference.check(judge, clips.shape[1:])
    if judge.sees_clips and clips.shape[1] == 1:
        return Figures(len(clips))
    views = reference.views_of(judge_clips(judge, clips, on_batch=on_frames))
    found: dict[str, Any] = {}
    for name, points in views.items():
        found[name] = frechet(reference.clouds[name], Cloud(points))
    if "video" in views:
        found["diversity"] = diversity(reference.views["video"], views["video"])
    if clips.shape[1] > 1:
        found["change"] = change(clips)
    return Figures(len(clips), **found)


def change(clips: Clips) -> Change:
    """How clips (N, T, H, W, 3) change, T at least 2."""
    moving, still, flicker, num_pixels = 0, 0, 0, 0
    for start in range(0, len(clips), CLIPS_AT_ONCE):
        part = clips[start : start + CLIPS_AT_ONCE]
        steps = np.abs(part[:, 1:].astype(np.int16) - part[:, :-1]).max(-1)  # (n, T - 1, H, W)
        changed = steps > CHANGED_LEVELS
        moving += int(changed.sum())
        still += int((changed.mean((1, 2, 3)) < STILL_SHARE).sum())
        flicker += int(steps[~changed].sum(dtype=np.int64))
        num_pixels += changed.size
    return Change(
        moving_percent=100 * moving / num_pixels,
        still_clips_percent=100 * still / len(clips),
        flicker_levels=flicker / max(1, num_pixels - moving),
    )


def subtract(ours: Figures, theirs: Figures) -> Figures:
    """How much farther one set of clips is than as many others from the same reference."""
    found: dict[str, Any] = {}
    for name in VIEWS:
        one, two = getattr(ours, name), getattr(theirs, name)
        if one is not None and two is not None and one.left and two.left:
            found[name] = difference(one, two)
    return Figures(ours.num_clips, **found)


def figures_from_json(fields: dict[str, Any]) -> Figures:
    """Figures of the plain values that `dataclasses.asdict` makes of them."""
    kinds: dict[str, Any] = dict.fromkeys(VIEWS, _estimate_from_json)
    kinds |= {"diversity": Diversity, "change": Change, "memorisation": Memorisation}
    return Figures(
        **{
            name: kinds[name](**value) if name in kinds and value is not None else value
            for name, value in fields.items()
        }
    )


def _estimate_from_json(
    value: float | None, low: float | None, high: float | None, left: Sequence[float | None] = ()
) -> Estimate:
    """JSON has null for what is no finite number."""
    numbers = (math.nan if number is None else number for number in (value, low, high, *left))
    mean, least, most, *rest = numbers
    return Estimate(mean, least, most, tuple(rest))


# -- copies of training clips ----------------------------------------------------------------------


def memorisation(judged: Distances, real: Distances) -> Memorisation:
    """Sum up the `nearest_levels` (N,) of judged clips beside those (M,) of held-out real ones."""
    nearest = np.percentile(real, REAL_PERCENTILE, method="lower")
    return Memorisation(
        median_levels=float(np.median(judged)),
        real_median_levels=float(np.median(real)),
        copied_percent=100 * float((judged <= nearest).mean()),
    )


def evenly_spread(clips: Clips) -> Clips:
    """At most MOST_LOOKED_UP of clips (N, ...), evenly spread."""
    if len(clips) <= MOST_LOOKED_UP:
        return clips
    return clips[np.linspace(0, len(clips) - 1, MOST_LOOKED_UP).round().astype(int)]


@torch.inference_mode()
def nearest_levels(
    sets: Mapping[str, Clips],
    train: Iterable[Clips],
    *,
    device: str = "cpu",
    on_clips: Callable[[int], None] = lambda count: None,
) -> dict[str, Distances]:
    """The distance of each clip to the nearest training clip, frame by frame and pixel by pixel.

    Args:
        sets: clips uint8 (N, T, H, W, 3) by name.
        train: clips (T, H, W, 3) that were trained on; read once.
        device: where to compute.
        on_clips: called with the number of training clips done.

    Returns:
        Root mean square differences in levels of 255, (N,) by name; exact, infinite without any
        training clip.
    """
    nearest = {name: np.full(len(clips), np.inf) for name, clips in sets.items()}
    done, waiting = 0, iter(train)
    while some := list(islice(waiting, CLIPS_AT_ONCE)):
        block = np.stack(some)
        there = _vectors(block, device)
        for name, clips in sets.items():
            for start in range(0, len(clips), LOOKED_UP_AT_ONCE):
                part = clips[start : start + LOOKED_UP_AT_ONCE]
                _improve(nearest[name][start : start + len(part)], part, block, there)
        done += len(block)
        on_clips(done)
    return {name: np.sqrt(squared) for name, squared in nearest.items()}


def _improve(best: Distances, clips: Clips, block: Clips, there: torch.Tensor) -> None:
    """Lower mean squared differences (N,), in squared levels, where a block has a nearer clip.

    Float products find which one is nearest, whole numbers say how near: a copy is at 0.
    """
    here = _vectors(clips, there.device)
    squared = here.square().sum(1)[:, None] + there.square().sum(1) - 2 * here @ there.T
    about, nearest = (squared / here.shape[1]).min(1)
    (rows,) = np.nonzero(about.cpu().numpy() < best + ROUNDING)
    difference = clips[rows].astype(np.int32) - block[nearest.cpu().numpy()[rows]]
    exact = np.square(difference).mean((1, 2, 3, 4))
    best[rows] = np.minimum(best[rows], exact)


def _vectors(clips: Clips, device: torch.device | str) -> torch.Tensor:
    """Clips as rows of floats about the middle level, so that products lose few digits."""
    flat = np.ascontiguousarray(clips).reshape(len(clips), -1)
    return torch.from_numpy(flat).to(device).float().sub_(127.5)
