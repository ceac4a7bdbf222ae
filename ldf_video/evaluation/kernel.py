"""The kernel distance: an unbiased one, so that it may be compared over numbers of clips."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ldf_video.evaluation.clouds import GROUPS, Array, Estimate, jackknife, tenths_of

Doubles = npt.NDArray[np.float64]

DEGREE = 3
ROWS_AT_ONCE = 256
"""Of a matrix of kernels: memory stays flat."""


class Sums:
    """Sums of the kernel over pairs of tenths of two clouds."""

    def __init__(self, a: Array, b: Array) -> None:
        """Takes points (N, d) and (M, d), at least GROUPS of each."""
        self.pairs = np.zeros((GROUPS, GROUPS))
        columns = tenths_of(len(b))
        for row, tenth in enumerate(tenths_of(len(a))):
            for start in range(tenth.start, tenth.stop, ROWS_AT_ONCE):
                part = a[start : min(start + ROWS_AT_ONCE, tenth.stop)]
                values = _kernel(part @ b.T, a.shape[1])
                for column, other in enumerate(columns):
                    self.pairs[row, column] += values[:, other].sum(dtype=np.float64)
        ours, theirs = ([t.stop - t.start for t in tenths_of(len(c))] for c in (a, b))
        self.counts = np.outer(ours, theirs)

    def mean(self, kept: npt.NDArray[np.bool_]) -> float:
        """Over all pairs of points of the tenths that are kept."""
        chosen = np.ix_(kept, kept)
        return float(self.pairs[chosen].sum() / self.counts[chosen].sum())


class OwnSums(Sums):
    """Of one cloud with itself, without the pairs of a point with itself."""

    def __init__(self, points: Array) -> None:
        """Takes points (N, d), at least 2 * GROUPS."""
        super().__init__(points, points)
        own = _kernel(np.square(points).sum(1), points.shape[1])
        for number, tenth in enumerate(tenths_of(len(points))):
            self.pairs[number, number] -= own[tenth].sum(dtype=np.float64)
            self.counts[number, number] -= tenth.stop - tenth.start


class KernelCloud:
    """Real points, as the kernel sees them: about their mean, of mean square 1 a dimension."""

    def __init__(self, points: Array) -> None:
        """Takes points (N, d), N at least 2 * GROUPS."""
        self.centre = points.mean(0, dtype=np.float64).astype(np.float32)
        spread = float(np.sqrt(np.square(points - self.centre).mean(dtype=np.float64)))
        self.scale = np.float32(spread or 1.0)
        self.points = self.seen(points)

    def seen(self, points: Array) -> Array:
        """Points (M, d) in its units."""
        return ((points - self.centre) / self.scale).astype(np.float32)

    @cached_property
    def own(self) -> OwnSums:
        """Kept, as each distance from it takes them."""
        return OwnSums(self.points)


def kernel_distance(reference: KernelCloud, judged: Array) -> Estimate:
    """The squared maximum mean discrepancy of two clouds, unbiased, with a 95 % interval.

    The kernel is k(x, y) = (x.y / d + 1)^3, and MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean
    k(x, y) over pairs of different points: KID (Binkowski et al. 2018, arXiv:1801.01401, section
    4), but for points that the reference has brought to mean 0 and mean square 1. So it does not
    depend on the units of features, and the spread of points counts as much as their mean.

    Its mean over draws is 0 where both clouds are of one distribution, whatever their number; so
    it may be below 0. The interval is `clouds.jackknife`'s, 2.262 standard errors to each side.

    Args:
        reference: of points (N, d).
        judged: points (M, d), M at least 2 * GROUPS.
    """
    points = reference.seen(judged)
    own, cross = OwnSums(points), Sums(reference.points, points)

    def squared(kept: npt.NDArray[np.bool_]) -> float:
        return reference.own.mean(kept) + own.mean(kept) - 2 * cross.mean(kept)

    left = [squared(np.arange(GROUPS) != without) for without in range(GROUPS)]
    return jackknife(squared(np.ones(GROUPS, bool)), left)


def _kernel(products: Array, d: int) -> Array:
    values: Array = (products / np.float32(d) + np.float32(1)) ** DEGREE
    return values
