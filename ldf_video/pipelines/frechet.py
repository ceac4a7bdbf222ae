"""Frechet distance between two clouds of points, taken as Gaussians."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


def frechet_distance(a: Points, b: Points) -> float:
    """|mean a - mean b|^2 + trace(A + B - 2 (A B)^(1/2)), A and B the covariances.

    Dowson & Landau (1982); used on features by Heusel et al. (2017), arXiv:1706.08500. It is biased
    by about dimensions / points: compare only distances of equally many points.

    Args:
        a: (N, d), N at least 2.
        b: (M, d), M at least 2.

    Returns:
        The squared distance, at least 0 but for rounding.
    """
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of (A B)^(1/2) is that of (A^(1/2) B A^(1/2))^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(np.atleast_2d(cov_a))
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    product = np.linalg.eigvalsh(root @ np.atleast_2d(cov_b) @ root)
    traces = float(np.trace(np.atleast_2d(cov_a)) + np.trace(np.atleast_2d(cov_b)))
    return float(difference @ difference) + traces - 2 * float(np.sqrt(product.clip(0)).sum())
