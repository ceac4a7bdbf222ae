"""Principal directions: a few numbers that hold most of what points differ by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


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
