"""Whether judged clips look like real ones, and whether all kinds of real ones are among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating]
NEIGHBOURS = 5
_ROWS = 256
"""Rows of a matrix of distances that are computed at a time: memory stays flat."""


@dataclass(frozen=True)
class Diversity:
    """Shares in [0, 1], but for density, which may exceed 1.

    Attributes:
        precision: judged clips that lie among the real ones.
        recall: real clips that lie among the judged ones.
        density: real clips that a judged one lies near, over how many are expected.
        coverage: real clips that have a judged one near.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def diversity(real: Points, judged: Points, *, neighbours: int = NEIGHBOURS) -> Diversity:
    """Compare two clouds by balls around their points, as large as to the k-th nearest neighbour.

    With B(x) the ball around a point, r the real ones and j the judged ones: precision is the share
    of j in any B(r), recall the share of r in any B(j) (Kynkaanniemi et al. 2019,
    arXiv:1904.06991); density is the number of pairs with j in B(r) over k M, coverage the share of
    r with any j in B(r) (Naeem et al. 2020, arXiv:2002.09797). Distances are Euclidean.

    Args:
        real: (N, d), N more than `neighbours`.
        judged: (M, d), M more than `neighbours`.
        neighbours: k; a point is no neighbour of its own.
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


def _squared_reach(points: npt.NDArray[np.float64], neighbours: int) -> npt.NDArray[np.float64]:
    """Squared distance of each point to its k-th nearest other one."""
    reach = np.empty(len(points))
    for rows, squared in _squared_distances(points, points):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf  # itself
        reach[rows] = np.partition(squared, neighbours - 1, axis=1)[:, neighbours - 1]
    return reach


def _squared_distances(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> Iterator[tuple[slice, npt.NDArray[np.float64]]]:
    """Some rows of `a`, and their squared distances (rows, M) to all of `b`."""
    lengths = np.square(b).sum(1)
    for start in range(0, len(a), _ROWS):
        rows = slice(start, min(start + _ROWS, len(a)))
        part = a[rows]
        squared = np.square(part).sum(1)[:, None] + lengths - 2 * part @ b.T
        yield rows, squared.clip(0)
