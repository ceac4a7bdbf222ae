"""Clouds of points: principal directions, Frechet distances with intervals, who lies near whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

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
        """The `count` directions of largest spread of points (N, d); all d where d is fewer.

        Pearson (1901): the eigenvectors of the covariance.
        """
        origin = points.mean(0, dtype=np.float64)
        centred = points - origin.astype(np.float32)
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
        points = points.astype(np.float64)
        centre = points.mean(0)
        groups = np.array_split(points - centre, GROUPS)
        products = [group.T @ group for group in groups]
        moments = sum(products, start=np.zeros((d, d)))
        self.whole = Gaussian(centre, moments / (n - 1))
        self.without = []
        for group, product in zip(groups, products, strict=True):
            count = n - len(group)
            mean = -group.sum(0) / count  # of the other points, about the centre
            covariance = (moments - product - count * np.outer(mean, mean)) / (count - 1)
            self.without.append(Gaussian(centre + mean, covariance))


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
    value = max(0.0, gaussian_distance(reference.whole, judged.whole))
    pairs = zip(reference.without, judged.without, strict=True)
    left = [gaussian_distance(one, two) for one, two in pairs]
    reach = _reach(left)
    return Estimate(value, max(0.0, value - reach), value + reach, tuple(left))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """How much farther one set is from a reference than another, with a 95 % interval.

    The jackknife of `frechet` on the paired differences a_j - b_j: both leave out the same tenth of
    the reference, so its chance and the bias of equally many clips cancel.
    """
    left = [one - two for one, two in zip(a.left, b.left, strict=True)]
    value, reach = a.value - b.value, _reach(left)
    return Estimate(value, value - reach, value + reach, tuple(left))


def _reach(left: list[float]) -> float:
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


def diversity(real: Points, judged: Points, *, neighbours: int = NEIGHBOURS) -> Diversity:
    """Compare two clouds by balls around their points, as large as to the k-th nearest neighbour.

    With B(x) the ball around a point, r the real ones and j the judged ones: precision is the share
    of j in any B(r), recall the share of r in any B(j) (Kynkaanniemi et al. 2019,
    arXiv:1904.06991); density is the number of pairs with j in B(r) over k M, coverage the share of
    r with any j in B(r) (Naeem et al. 2020, arXiv:2002.09797). Distances are Euclidean; a point is
    no neighbour of its own. Points are (N, d) and (M, d), more than k = `neighbours` of both.
    """
    ours, theirs = real.astype(np.float64), judged.astype(np.float64)
    real_reach = _squared_reach(ours, neighbours)
    judged_reach = _squared_reach(theirs, neighbours)
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    precise, balls = np.zeros(len(judged), bool), 0
    for rows, squared in _squared_distances(ours, theirs):
        near_real = squared <= real_reach[rows, None]
        recalled[rows] = (squared <= judged_reach).any(1)
        covered[rows] = near_real.any(1)
        precise |= near_real.any(0)
        balls += int(near_real.sum())
    return Diversity(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=balls / (neighbours * len(judged)),
        coverage=float(covered.mean()),
    )


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
