"""Frechet distance between two clouds of points, taken as Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """A cloud of points, as its mean (d,) and covariance (d, d)."""

    mean: Points
    covariance: Points

    @classmethod
    def of(cls, points: Points) -> Self:
        """The Gaussian of points (N, d), N at least 2."""
        return cls(points.mean(0), np.atleast_2d(np.cov(points, rowvar=False)))

    @cached_property
    def root(self) -> Points:
        """The symmetric square root of the covariance; kept, as it costs most."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors * np.sqrt(values.clip(0)) @ vectors.T


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean a - mean b|^2 + trace(A + B - 2 (A B)^(1/2)), A and B the covariances.

    The squared distance of Dowson & Landau (1982), at least 0 but for rounding.
    """
    difference = a.mean - b.mean
    # The trace of (A B)^(1/2) is that of (A^(1/2) B A^(1/2))^(1/2), which is symmetric.
    product = np.linalg.eigvalsh(a.root @ b.covariance @ a.root)
    traces = float(np.trace(a.covariance) + np.trace(b.covariance))
    return float(difference @ difference) + traces - 2 * float(np.sqrt(product.clip(0)).sum())


def frechet_distance(a: Points, b: Points) -> float:
    """The distance of the Gaussians of two clouds of points.

    Of points (N, d), N at least 2. Used on features by Heusel et al. (2017), arXiv:1706.08500. It
    is biased by about dimensions / points: compare only distances of equally many points.
    """
    return gaussian_distance(Gaussian.of(a), Gaussian.of(b))
