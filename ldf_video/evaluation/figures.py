"""The figures of one set of clips against a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.evaluation.clouds import Cloud, Estimate, difference, frechet
from ldf_video.evaluation.diversity import Diversity, diversity
from ldf_video.evaluation.judge import Judge, judge_clips
from ldf_video.evaluation.nearest import Memorisation
from ldf_video.evaluation.reference import VIEWS, Reference

Clips = npt.NDArray[np.uint8]

CHANGED_LEVELS = 40
"""A pixel that differs by more than this in any colour has changed, of 255."""
STILL_SHARE = 0.001
CLIPS_AT_ONCE = 256


@dataclass(frozen=True)
class Change:
    """How clips change from frame to frame.

    Attributes:
        moving_percent: pixels that differ visibly from the frame before.
        still_clips_percent: clips in which under 0.1 % of the pixels do: frozen ones, too.
        flicker_levels: mean absolute difference of the pixels that do not, in levels of 255: what
            a background that stands still has at 0. 0 also where every pixel moves.
    """

    moving_percent: float
    still_clips_percent: float
    flicker_levels: float


@dataclass(frozen=True)
class Figures:
    """What is known of a set of clips; None where a figure does not apply.

    Attributes:
        num_clips: that were judged.
        frame: Frechet distance of the clips' first frames.
        video: of their frames together.
        motion: of the differences of successive frames.
        video_plus: as `video`, on directions that also hold what real frames never have.
        diversity: how judged and real clips lie among each other.
        change: how clips change from frame to frame.
        psnr_db: of reconstructions, the squared error of all frames pooled.
        memorisation: distances to the nearest training clip.
    """

    num_clips: int
    frame: Estimate | None = None
    video: Estimate | None = None
    motion: Estimate | None = None
    video_plus: Estimate | None = None
    diversity: Diversity | None = None
    change: Change | None = None
    psnr_db: float | None = None
    memorisation: Memorisation | None = None


def measure(
    reference: Reference,
    clips: Clips,
    judge: Judge,
    *,
    on_frames: Callable[[int], None] = lambda count: None,
) -> Figures:
    """Judge clips and compare them with the reference.

    Args:
        reference: real clips, as `Reference.of` makes it.
        clips: uint8 (N, T, H, W, 3) as the reference's; of T = 1 (single frames) only the frame
            figure is measured. Neighbours in time side by side, where they have any.
        judge: the same that judged the reference.
        on_frames: called with the number of frames judged.

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
    """How much farther one set of clips is from the reference than another, distance by distance.

    Args:
        ours: measured against a reference.
        theirs: as many clips, against the same reference.
    """
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
