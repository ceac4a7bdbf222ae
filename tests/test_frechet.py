"""The Frechet distance of clouds whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.levels.frechet import frechet_distance


def cloud(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def whitened(points: np.ndarray) -> np.ndarray:
    """Points of mean 0 and covariance I exactly."""
    centred = points - points.mean(0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False)).T)


@pytest.mark.parametrize("dimensions", [2, 7])
def test_a_cloud_is_at_no_distance_from_itself(dimensions: int) -> None:
    points = cloud(50, dimensions)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(points, points[::-1]) == pytest.approx(0, abs=1e-9)


def test_a_translation_costs_its_squared_length() -> None:
    points = cloud(40, 3)
    assert frechet_distance(points, points + np.array([3, 0, 4])) == pytest.approx(25)


def test_known_gaussians() -> None:
    a = whitened(cloud(60, 3))
    # Of diagonal covariances: the sum of squared differences of the standard deviations.
    b = whitened(cloud(80, 3, seed=1)) * [2.0, 0.5, 1.0] + np.array([1, 0, 0])
    assert frechet_distance(a, b) == pytest.approx(1 + 1 + 0.25)
    assert frechet_distance(b, a) == pytest.approx(1 + 1 + 0.25)


def test_covariances_that_do_not_commute() -> None:
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    first = np.array([[4.0, 0.0], [0.0, 1.0]])
    second = turn @ np.diag([9.0, 0.25]) @ turn.T
    a = whitened(cloud(60, 2)) @ np.linalg.cholesky(first).T
    b = whitened(cloud(70, 2, seed=1)) @ np.linalg.cholesky(second).T
    # Of a 2 x 2 matrix M: trace of its root is sqrt(trace M + 2 sqrt(det M)).
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(a, b) == pytest.approx(np.trace(first + second) - 2 * root)


def test_one_dimension_and_collapse() -> None:
    points = cloud(30, 1)
    spread = points.std(ddof=1)
    still = np.full((10, 1), points.mean())
    assert frechet_distance(points, still) == pytest.approx(spread**2)
    assert frechet_distance(points, 3 * points - 2 * points.mean()) == pytest.approx(4 * spread**2)


def test_fewer_points_than_dimensions() -> None:
    points = cloud(4, 9)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(frechet_distance(points, cloud(5, 9, seed=2)))
