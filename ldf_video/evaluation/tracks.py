"""Tracks without a network: where what moves in one frame is found in the next.

Block matching, as in codecs: the patch around a pixel that changes is looked for in the next frame,
and one of the next frame in the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ldf_video.evaluation.change import CHANGED_LEVELS, some_clips
from ldf_video.evaluation.clouds import Estimate, jackknife, not_below_0, tenths_of

Clips = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

ROWS = 32
"""Larger frames are made smaller by a whole factor, to as many or some more."""
PATCH, REACH = 3, 4
"""Pixels from the middle of a patch to its edge, and how far it is looked for."""
LATTICE = 3
"""Of rows and columns, each third is looked at."""
ALIKE = 0.7
"""Normalised cross-correlation from which a patch is found again, whatever its brightness."""
FLAT_LEVELS = 8
"""Spread of a patch's levels under which it shows nothing that could be found."""
SECTORS = 16
"""Of the circle of directions."""
PATCHES_AT_ONCE = 512

SIDE = 2 * REACH + 1
_DOWN, _RIGHT = (steps.ravel() - REACH for steps in np.indices((SIDE, SIDE)))
_NEAREST_FIRST = np.argsort(np.hypot(_DOWN, _RIGHT), kind="stable")


@dataclass(frozen=True)
class Tracks:
    """How what moves moves; NaN where nothing does."""

    step_pixels: Estimate  # Wasserstein-1 distance of the lengths of steps from real ones'
    direction_degrees: Estimate  # the same of their directions, on the circle
    vanish_percent: Estimate  # changed patches that are not found in the next frame
    appear_percent: Estimate  # changed patches that are not found in the frame before


@dataclass(frozen=True)
class Moves:
    """What became of the patches of each clip."""

    counts: Counts
    """(N, SIDE ** 2 + 3): of patches found in the next frame, so far down and right; of those
    not found there; of patches found in the frame before; of those not found there."""
    scale: int  # pixels of the clips in one of a step

    @classmethod
    def of(cls, clips: Clips) -> Self:
        """Follow what moves in clips uint8 (N, T, H, W, 3), T at least 2."""
        scale = max(1, min(clips.shape[2] // ROWS, clips.shape[3]))
        counts = []
        for some in some_clips(clips):
            part = _smaller(clips[some], scale)
            before, after = part[:, :-1], part[:, 1:]
            ahead, back = _follow(before, after), _follow(after, before)
            old = back[:, :-1].sum(1, keepdims=True)
            counts.append(np.concatenate([ahead, old, back[:, -1:]], axis=1))
        return cls(np.concatenate(counts), scale)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Of the clips of all parts, which are of one size."""
        return cls(np.concatenate([part.counts for part in parts]), parts[0].scale)

    def without_each_tenth(self) -> list[Counts]:
        """Sums (SIDE ** 2 + 3,) over all clips, then over all but each tenth."""
        tenths = np.stack([self.counts[tenth].sum(0) for tenth in tenths_of(len(self.counts))])
        return [tenths.sum(0), *(tenths.sum(0) - tenths)]


def compare(reference: Moves, judged: Moves) -> Tracks:
    """Figures of judged clips, with the interval of `clouds.jackknife`."""
    pairs = zip(reference.without_each_tenth(), judged.without_each_tenth(), strict=True)
    found = np.array([_figures(theirs, ours, judged.scale) for theirs, ours in pairs])
    step, direction, vanish, appear = (jackknife(row[0], row[1:].tolist()) for row in found.T)
    return Tracks(not_below_0(step), not_below_0(direction), vanish, appear)


def _figures(reference: Counts, judged: Counts, scale: int) -> list[float]:
    """What `Tracks` holds, of sums (SIDE ** 2 + 3,) over clips."""
    theirs, (ours, others) = reference[:-3], np.split(judged, [-3])
    lost, old, new = others
    lengths = np.hypot(_DOWN, _RIGHT)
    distance = wasserstein(lengths, _shares(ours), _shares(theirs)) * scale
    sectors = np.round(np.arctan2(_DOWN, _RIGHT) / (2 * np.pi) * SECTORS).astype(int) % SECTORS
    moved = lengths > 0
    turned = (
        np.bincount(sectors[moved], steps[moved], minlength=SECTORS) for steps in (ours, theirs)
    )
    return [
        distance,
        circular_wasserstein(*(_shares(counts) for counts in turned)) * 360 / SECTORS,
        100 * lost / (lost + ours.sum()) if lost + ours.sum() else np.nan,
        100 * new / (new + old) if new + old else np.nan,
    ]


def wasserstein(values: Doubles, p: Doubles, q: Doubles) -> float:
    """Wasserstein-1 distance of two distributions p and q (n,) over the same values (n,).

    The area between their distribution functions, in units of the values.
    """
    order = np.argsort(values)
    gaps = np.diff(values[order])
    return float(np.abs(np.cumsum((p - q)[order])[:-1]) @ gaps)


def circular_wasserstein(p: Doubles, q: Doubles) -> float:
    """The same of distributions p and q (n,) over n sectors of a circle, in sectors.

    Nothing says where to cut the circle: the distribution functions may be shifted against each
    other, and the median of their difference is the shift that leaves the smallest area (Rabin,
    Delon & Gousseau 2011).
    """
    difference = np.cumsum(p - q)
    return float(np.abs(difference - np.median(difference)).sum())


def _shares(counts: npt.NDArray[np.number]) -> Doubles:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), np.nan)


def _follow(before: Levels, after: Levels) -> Counts:
    """Look for the changed patches of clips (N, T, H, W, 3) in others, frame by frame.

    Returns:
        Of each clip, (N, SIDE ** 2 + 1): how many were found at each step, and how many were not.
    """
    changed = np.abs(before - after).max(-1) > CHANGED_LEVELS  # (N, T, H, W)
    looked_at = np.zeros(changed.shape[2:], bool)
    looked_at[LATTICE // 2 :: LATTICE, LATTICE // 2 :: LATTICE] = True
    places = np.nonzero(changed & looked_at)
    ours, theirs = (
        np.pad(levels.mean(-1), ((0, 0), (0, 0), (edge, edge), (edge, edge)), mode="edge")
        for levels, edge in ((before, PATCH), (after, PATCH + REACH))
    )
    patches = sliding_window_view(ours, (2 * PATCH + 1,) * 2, axis=(2, 3))
    areas = sliding_window_view(theirs, (2 * (PATCH + REACH) + 1,) * 2, axis=(2, 3))
    counts = np.zeros((len(before), SIDE**2 + 1), np.int64)
    for start in range(0, len(places[0]), PATCHES_AT_ONCE):
        some = tuple(axis[start : start + PATCHES_AT_ONCE] for axis in places)
        shown, alike, step = _best(patches[some], areas[some])
        np.add.at(counts, (some[0][shown], np.where(alike >= ALIKE, step, SIDE**2)), 1)
    return counts


def _best(
    patches: Levels, areas: Levels
) -> tuple[npt.NDArray[np.bool_], Levels, npt.NDArray[np.intp]]:
    """Where patches (n, p, p) are most alike to a place of areas (n, a, a).

    Returns:
        Which patches are not flat, (n,); of these, the normalised cross-correlation, and the number
        of the step, the nearest one where several are as good.
    """
    patches = patches.reshape(len(patches), -1)
    patches = patches - patches.mean(1, keepdims=True)
    spread = np.sqrt(np.square(patches).mean(1))
    shown = spread > FLAT_LEVELS
    patches = patches[shown] / spread[shown, None]
    windows = sliding_window_view(areas[shown], (2 * PATCH + 1,) * 2, axis=(1, 2))
    windows = windows.reshape(len(patches), SIDE**2, patches.shape[1])
    products = (windows @ patches[:, :, None])[..., 0] / patches.shape[1]
    squares = np.einsum("nvp,nvp->nv", windows, windows) / patches.shape[1]
    spreads = np.sqrt((squares - np.square(windows.mean(2))).clip(FLAT_LEVELS**2))
    alike = (products / spreads)[:, _NEAREST_FIRST]
    best = alike.argmax(1)
    return shown, alike[np.arange(len(best)), best], _NEAREST_FIRST[best]


def _smaller(clips: Clips, scale: int) -> Levels:
    """Clips (N, T, H, W, 3) with the mean of each scale x scale pixels as one."""
    n, t, h, w, _ = clips.shape
    h, w = h // scale, w // scale
    levels = clips[:, :, : h * scale, : w * scale].astype(np.float32)
    return levels.reshape(n, t, h, scale, w, scale, 3).mean((3, 5))
