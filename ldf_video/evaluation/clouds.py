"""Clouds of points: principal directions, and Frechet distances with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ldf_video.levels.frechet import Gaussian, gaussian_distance

Array = npt.NDArray[np.float32]

GROUPS = 10
STUDENT = 2.262
"""Two-sided 95 % quantile of Student's t with GROUPS - 1 = 9 degrees of freedom."""


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


@dataclass(frozen=True)
class Estimate:
    """A figure, and its 95 % interval.

    Attributes:
        value: of all clips.
        low: end of the interval.
        high: end of the interval.
        left: the figure without each tenth of the clips, of which the interval is made; empty where
            an earlier version did not keep it.
    """

    value: float
    low: float
    high: float
    left: tuple[float, ...] = ()


class Cloud:
    """Points of one figure as Gaussians: of all of them, and of all but each tenth."""

    def __init__(self, points: npt.NDArray[np.floating]) -> None:
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


def frechet(a: Cloud, b: Cloud) -> Estimate:
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

    Args:
        a: the reference; its square roots are computed once and kept.
        b: what is judged, in as many dimensions.
    """
    value = max(0.0, gaussian_distance(a.whole, b.whole))
    left = [gaussian_distance(one, two) for one, two in zip(a.without, b.without, strict=True)]
    reach = _reach(left)
    return Estimate(value, max(0.0, value - reach), value + reach, tuple(left))


def difference(a: Estimate, b: Estimate) -> Estimate:
    """How much farther one set is from a reference than another, with a 95 % interval.

    The jackknife of `frechet` on the paired differences a_j - b_j: both leave out the same tenth of
    the reference, so its chance and the bias of equally many clips cancel.

    Args:
        a: of one set, with `left`.
        b: of another, as many clips against the same reference, with `left`.
    """
    left = [one - two for one, two in zip(a.left, b.left, strict=True)]
    value, reach = a.value - b.value, _reach(left)
    return Estimate(value, value - reach, value + reach, tuple(left))


def _reach(left: list[float]) -> float:
    """Half of the jackknife's interval, from a figure without each group in turn."""
    squared = np.square(np.array(left) - np.mean(left)).sum()
    return STUDENT * float(np.sqrt((GROUPS - 1) / GROUPS * squared))
