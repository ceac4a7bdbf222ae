"""Clouds of points: principal directions, Frechet distances with intervals, who lies near whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ldf_video.levels.frechet import Gaussian, gaussian_distance

Array = npt.NDArray[np.float32]
Points = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]

GROUPS = 10
STUDENT = 2.262
"""Two-sided 95 % quantile of Student's t with GROUPS - 1 = 9 degrees of freedom."""
NEIGHBOURS = 5
ROWS_AT_ONCE = 256
"""Of a matrix of distances: memory stays flat."""


@dataclass(frozen=True)
class Directions:
    """An origin (d,) and orthonormal directions (d, k), the one of largest spread first."""

    origin: Array
    axes: Array

    @classmethod
    def fit(cls, points: Array, *, count: int) -> Self:
        """The `count` directions of largest spread of points (N, d), or the fewer there are.

        Pearson (1901): the eigenvectors of the covariance. N points spread along N - 1 directions
        at most; any further one would be arbitrary.
        """
        origin = points.mean(0, dtype=np.float64)
        centred = points - origin.astype(np.float32)
        if len(points) < points.shape[1]:
            vectors = np.linalg.svd(centred, full_matrices=False)[2][
                : min(count, len(points) - 1)
            ].T
        else:
            spread = (centred.T @ centred).astype(np.float64)
            vectors = np.linalg.eigh(spread)[1][:, ::-1][:, :count]
        return cls(origin.astype(np.float32), vectors.astype(np.float32))

    def project(self, points: Array) -> Array:
        """Points (..., d) -> coordinates (..., k)."""
        return np.matmul(points - self.origin, self.axes, dtype=np.float32)


# -- Frechet distances -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, and the figure without each tenth of the clips.

    Of the latter the interval is made; `left` is empty where an earlier version did not keep it.
    """

    value: float
    low: float
    high: float
    left: tuple[float, ...] = ()


class Cloud:
    """Points of one figure as Gaussians: of all of them, and of all but each tenth."""

    def __init__(self, points: Points) -> None:
        """Takes points (N, d), N at least 2 * GROUPS.

        Neighbours should be neighbours in the recording: a tenth is a run of them, so that what
        one episode has in common is left out together.
        """
        n, d = points.shape
        if n < 2 * GROUPS:
            raise ValueError(f"got {n} points, expected {2 * GROUPS} or more")
        self.whole: Spread
        self.without: list[Spread]
        doubles, tenths = points.astype(np.float64), tenths_of(n)
        if n < d:  # their products are fewer than the covariances
            self.whole = Few.of(doubles)
            self.without = [Few.of(np.delete(doubles, tenth, axis=0)) for tenth in tenths]
            return
        centre = doubles.mean(0)
        groups = [doubles[tenth] - centre for tenth in tenths]
        products = [group.T @ group for group in groups]
        moments = sum(products, start=np.zeros((d, d)))
        self.whole = Gaussian(centre, moments / (n - 1))
        self.without = []
        for group, product in zip(groups, products, strict=True):
            count = n - len(group)
            mean = -group.sum(0) / count  # of the other points, about the centre
            covariance = (moments - product - count * np.outer(mean, mean)) / (count - 1)
            self.without.append(Gaussian(centre + mean, covariance))


@dataclass(frozen=True)
class Few:
    """A cloud of fewer points than dimensions: its mean (d,), and the points about it.

    `factor` is (N, d), and factor.T @ factor the covariance.
    """

    mean: Doubles
    factor: Doubles

    @classmethod
    def of(cls, points: Doubles) -> Self:
        """Of points (N, d), N at least 2."""
        mean = points.mean(0)
        return cls(mean, (points - mean) / np.sqrt(len(points) - 1))

    def gaussian(self) -> Gaussian:
        """The same with its covariance (d, d)."""
        return Gaussian(self.mean, self.factor.T @ self.factor)


Spread: TypeAlias = Gaussian | Few


def tenths_of(count: int) -> list[slice]:
    """Runs of `count` neighbours, GROUPS of them, as equal as can be."""
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(count), GROUPS))])
    return [slice(start, stop) for start, stop in pairwise(edges.tolist())]


def _distance(a: Spread, b: Spread) -> float:
    """The Frechet distance; `levels.frechet` has the formula.

    With A = F'F and B = G'G, the trace of (A B)^(1/2) is that of (F G' G F')^(1/2), which is as
    small as the points are few.
    """
    if isinstance(a, Few) and isinstance(b, Few):
        products = a.factor @ b.factor.T
        roots = np.linalg.eigvalsh(products @ products.T).clip(0)
        squares = np.square(a.factor).sum() + np.square(b.factor).sum()
        return float(np.square(a.mean - b.mean).sum() + squares - 2 * np.sqrt(roots).sum())
    a, b = (c.gaussian() if isinstance(c, Few) else c for c in (a, b))
    return gaussian_distance(a, b)


def frechet(reference: Cloud, judged: Cloud) -> Estimate:
    """The Frechet distance of two clouds, with a 95 % interval by the jackknife.

    Each of g = 10 resamples leaves a tenth of both clouds out, the same run of neighbours in each.
    With theta_j the distance without the j-th tenth,
    s^2 = (g - 1) / g * sum_j (theta_j - mean theta)^2 (delete-a-group jackknife, Kott 2001; grouped
    jackknife, Quenouille 1956); the interval is value +- 2.262 s (Student's t, 9 degrees of
    freedom), and not below 0.

    The distance is biased upwards by about dimensions / points. All theta_j have the same bias, so
    it cancels in s. Resampling with replacement would not do: copies of points make a cloud look
    smaller than it is, and the distance larger in every resample than the figure itself. The
    interval holds the mean over draws of as many clips, biased as they are, but not the distance of
    endless sets, and less surely the figure of another draw.
    """
    value = max(0.0, _distance(reference.whole, judged.whole))
    pairs = zip(reference.without, judged.without, strict=True)
    return not_below_0(jackknife(value, [_distance(one, two) for one, two in pairs]))


def jackknife(value: float, left: Sequence[float]) -> Estimate:
    """A figure with the interval of `frechet`, from the figure without each tenth in turn."""
    reach = _reach(left)
    return Estimate(float(value), float(value - reach), float(value + reach), tuple(left))


def not_below_0(estimate: Estimate) -> Estimate:
    """The same, where a figure cannot be less."""
    return replace(estimate, low=max(0.0, estimate.low))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """How much larger a figure is of one set than of another, with a 95 % interval.

    The jackknife of `frechet` on the paired differences a_j - b_j: both leave out the same tenth of
    the reference and of the judged clips. So the chance of the reference and the bias of equally
    many clips cancel, and so does what clips share that were made from the same seeds.
    """
    left = [one - two for one, two in zip(a.left, b.left, strict=True)]
    return jackknife(a.value - b.value, left)


def _reach(left: Sequence[float]) -> float:
    """Half of the jackknife's interval, from a figure without each group in turn."""
    squared = np.square(np.array(left) - np.mean(left)).sum()
    return STUDENT * float(np.sqrt((GROUPS - 1) / GROUPS * squared))


# -- who lies near whom ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Diversity:
    """Shares in [0, 1], but for density, which may exceed 1."""

    precision: float  # judged clips that lie among the real ones
    recall: float  # real clips that lie among the judged ones
    density: float  # real clips that a judged one lies near, over how many are expected
    coverage: float  # real clips that have a judged one near
    left: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Each without each tenth of both sides, balls as they are; empty of fewer than 20 points."""


def diversity(real: Points, judged: Points, *, neighbours: int = NEIGHBOURS) -> Diversity:
    """Compare two clouds by balls around their points, as large as to the k-th nearest neighbour.

    With B(x) the ball around a point, r the real ones and j the judged ones: precision is the share
    of j in any B(r), recall the share of r in any B(j) (Kynkaanniemi et al. 2019,
    arXiv:1904.06991); density is the number of pairs with j in B(r) over k M, coverage the share of
    r with any j in B(r) (Naeem et al. 2020, arXiv:2002.09797). Distances are Euclidean; a point is
    no neighbour of its own. Points are (N, d) and (M, d), more than k = `neighbours` of both.
    """
    ours, theirs = real.astype(np.float64), judged.astype(np.float64)
    n, m = len(ours), len(theirs)
    real_reach = _squared_reach(ours, neighbours)
    judged_reach = _squared_reach(theirs, neighbours)
    groups = GROUPS if min(n, m) >= 2 * GROUPS else 1
    real_groups, judged_groups = (np.arange(count) * groups // count for count in (n, m))
    starts = np.searchsorted(judged_groups, np.arange(groups))
    # whether and how often points are near any of each group, of the other side
    recalled, counts = np.zeros((n, groups), bool), np.zeros((n, groups), np.int64)
    precise = np.zeros((groups, m), bool)
    for rows, squared in _squared_distances(ours, theirs):
        near_real = squared <= real_reach[rows, None]
        recalled[rows] = np.logical_or.reduceat(squared <= judged_reach, starts, axis=1)
        counts[rows] = np.add.reduceat(near_real, starts, axis=1, dtype=np.int64)
        for group in np.unique(real_groups[rows]):
            precise[group] |= near_real[real_groups[rows] == group].any(0)

    def shares(without: int) -> dict[str, float]:
        r, j = real_groups != without, judged_groups != without
        others = np.arange(groups) != without
        near = counts[r][:, others]
        return {
            "precision": float(precise[others][:, j].any(0).mean()),
            "recall": float(recalled[r][:, others].any(1).mean()),
            "density": float(near.sum() / (neighbours * j.sum())),
            "coverage": float(near.any(1).mean()),
        }

    parts = [shares(group) for group in range(groups if groups > 1 else 0)]
    left = {name: tuple(part[name] for part in parts) for name in parts[0]} if parts else {}
    return Diversity(**shares(-1), left=left)


def _squared_reach(points: Doubles, neighbours: int) -> Doubles:
    """Squared distance of each point to its k-th nearest other one."""
    reach = np.empty(len(points))
    for rows, squared in _squared_distances(points, points):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf  # itself
        reach[rows] = np.partition(squared, neighbours - 1, axis=1)[:, neighbours - 1]
    return reach


def _squared_distances(a: Doubles, b: Doubles) -> Iterator[tuple[slice, Doubles]]:
    """Some rows of `a`, and their squared distances (rows, M) to all of `b`."""
    lengths = np.square(b).sum(1)
    for start in range(0, len(a), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(a)))
        part = a[rows]
        squared = np.square(part).sum(1)[:, None] + lengths - 2 * part @ b.T
        yield rows, squared.clip(0)
