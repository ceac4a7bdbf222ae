"""The figures of one set of clips against a reference, against training clips, and of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.evaluation.change import Change, Changes, change, count_changes
from ldf_video.evaluation.clouds import (
    Cloud,
    Diversity,
    Estimate,
    difference,
    diversity,
    frechet,
    jackknife,
)
from ldf_video.evaluation.draw import evenly
from ldf_video.evaluation.judge import Judge
from ldf_video.evaluation.kernel import kernel_distance
from ldf_video.evaluation.reference import VIEWS, Reference, Views
from ldf_video.evaluation.tracks import Moves, Tracks, compare

Clips = npt.NDArray[np.uint8]
Distances = npt.NDArray[np.float64]

COMPARED = (
    *VIEWS,
    *("kernel.frame", "kernel.video", "kernel.motion"),
    *("diversity.recall", "diversity.coverage", "diversity.precision", "diversity.density"),
    *("change.moving_percent", "change.still_clips_percent", "change.flicker_levels"),
    *("tracks.step_pixels", "tracks.direction_degrees"),
    *("tracks.vanish_percent", "tracks.appear_percent"),
)
"""Places of the figures that have intervals."""
CLIPS_AT_ONCE = 256
MOST_LOOKED_UP = 1000
"""Clips of each set: each is compared with every training clip."""
LOOKED_UP_AT_ONCE = 250
REAL_PERCENTILE = 1
ROUNDING = 0.1
"""Squared levels: far more than float products lose."""


@dataclass(frozen=True)
class Kernel:
    """Unbiased kernel distances of the points that the Frechet distances are of."""

    frame: Estimate | None = None
    video: Estimate | None = None
    motion: Estimate | None = None


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training clip, root mean square over a clip, in levels of 255."""

    median_levels: float
    real_median_levels: float  # of real clips that were not trained on
    copied_percent: float
    """Judged clips as near as, or nearer than, the nearest percent of the real ones: 1 by chance
    (of fewer than 100 real ones, whose nearest one counts, 100 over their number); more where
    judged clips copy."""


@dataclass(frozen=True)
class Figures:
    """What is known of a set of clips; None where a figure does not apply."""

    num_clips: int
    frame: Estimate | None = None  # Frechet distance of the clips' first frames
    video: Estimate | None = None  # of their frames together
    motion: Estimate | None = None  # of the differences of successive frames
    video_plus: Estimate | None = None  # on directions that also hold what real frames never have
    kernel: Kernel | None = None
    diversity: Diversity | None = None
    change: Change | None = None
    tracks: Tracks | None = None
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

    Of single frames (T = 1) there are only the figures of frames. Neighbours in time, where clips
    have any, stand side by side. `on_frames` is called with the number of frames judged.

    Raises:
        LdfError: judge or shape are not the reference's.
        ValueError: fewer than 20 clips.
    """
    reference.check(judge, clips.shape[1:])
    if judge.sees_clips and clips.shape[1] == 1:
        return Figures(len(clips))
    views = reference.views_of(clips, judge, on_frames=on_frames)
    if clips.shape[1] == 1:
        return compared(reference, views, None, None)
    return compared(reference, views, Moves.of(clips), count_changes(clips))


def compared(
    reference: Reference, views: Views, moves: Moves | None, changes: Changes | None
) -> Figures:
    """The figures of clips of which points, moves and changes are known, each as far as it is."""
    found: dict[str, Any] = {}
    for name, points in views.items():
        found[name] = frechet(reference.clouds[name], Cloud(points))
    near = {n: kernel_distance(k, views[n]) for n, k in reference.kernels.items() if n in views}
    found["kernel"] = Kernel(**near)
    if "video" in views:
        found["diversity"] = diversity(reference.views["video"], views["video"])
    if changes is not None:
        found["change"] = change(changes)
    if moves is not None and reference.moves is not None:
        found["tracks"] = compare(reference.moves, moves)
    return Figures(len(next(iter(views.values()))), **found)


def figure(figures: Figures, place: str) -> Any:
    """What stands at a place, such as "frame" or "diversity.recall"; None where nothing does."""
    value: Any = figures
    for name in place.split("."):
        value = None if value is None else getattr(value, name)
    return value


def number_of(figures: Figures, place: str) -> float:
    """The same as a plain number, without its interval; NaN where nothing stands."""
    value = figure(figures, place)
    found = value.value if isinstance(value, Estimate) else value
    return math.nan if found is None else float(found)


def estimate(figures: Figures, place: str) -> Estimate | None:
    """A figure with its interval, by its place; None where it has none."""
    value, (outer, _, name) = figure(figures, place), place.rpartition(".")
    if value is None or isinstance(value, Estimate):
        return value
    left = getattr(figure(figures, outer), "left", {}).get(name, ())
    return jackknife(value, left) if left else None


def subtract(ours: Figures, theirs: Figures) -> dict[str, Estimate]:
    """How much larger figures are of one set of clips than of as many others, by their places."""
    pairs = {place: (estimate(ours, place), estimate(theirs, place)) for place in COMPARED}
    return {
        place: difference(one, two)
        for place, (one, two) in pairs.items()
        if one is not None and two is not None and one.left and two.left
    }


def figures_from_json(fields: dict[str, Any]) -> Figures:
    """Figures of the plain values that `dataclasses.asdict` makes of them."""
    kinds: dict[str, Any] = dict.fromkeys(VIEWS, _estimate_from_json)
    kinds |= {name: partial(_shares_from_json, kind) for name, kind in _SHARES.items()}
    kinds |= {name: partial(_estimates_from_json, kind) for name, kind in _ESTIMATES.items()}
    kinds["memorisation"] = Memorisation
    return Figures(
        **{
            name: kinds[name](**value) if name in kinds and value is not None else value
            for name, value in fields.items()
        }
    )


_SHARES: dict[str, Any] = {"diversity": Diversity, "change": Change}
_ESTIMATES: dict[str, Any] = {"kernel": Kernel, "tracks": Tracks}


def _shares_from_json(kind: Any, *, left: Mapping[str, Any] | None = None, **shares: Any) -> Any:
    return kind(**shares, left={name: tuple(values) for name, values in (left or {}).items()})


def _estimates_from_json(kind: Any, **values: Any) -> Any:
    return kind(**{n: None if v is None else _estimate_from_json(**v) for n, v in values.items()})


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
    return clips[evenly(len(clips), MOST_LOOKED_UP)]


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
