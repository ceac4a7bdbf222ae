"""The figures of one set of clips against a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.evaluation.change import Change, change
from ldf_video.evaluation.clouds import Cloud, Estimate, difference, frechet
from ldf_video.evaluation.diversity import Diversity, diversity
from ldf_video.evaluation.judge import Judge, judge_clips
from ldf_video.evaluation.nearest import Memorisation
from ldf_video.evaluation.reference import Reference

Clips = npt.NDArray[np.uint8]

DISTANCES = ("frame", "video", "motion", "video_plus")


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
    for name, cloud in reference.clouds.items():
        points = getattr(views, name)
        if points is not None:
            found[name] = frechet(cloud, Cloud(points))
    if views.video is not None and reference.views.video is not None:
        found["diversity"] = diversity(reference.views.video, views.video)
    if clips.shape[1] > 1:
        found["change"] = change(clips)
    return Figures(len(clips), **found)


def less(ours: Figures, theirs: Figures) -> Figures:
    """How much farther one set of clips is from the reference than another, distance by distance.

    Args:
        ours: measured against a reference.
        theirs: as many clips, against the same reference.
    """
    found: dict[str, Any] = {}
    for name in DISTANCES:
        one, two = getattr(ours, name), getattr(theirs, name)
        if one is not None and two is not None and one.left and two.left:
            found[name] = difference(one, two)
    return Figures(ours.num_clips, **found)


def figures_from_json(fields: dict[str, Any]) -> Figures:
    """Figures of the plain values that `dataclasses.asdict` makes of them."""
    kinds: dict[str, Any] = dict.fromkeys(DISTANCES, _estimate_from_json)
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
