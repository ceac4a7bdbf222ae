"""Frechet distances of known clouds, their intervals, and principal directions."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation.clouds import GROUPS, STUDENT, Cloud, Directions, difference, frechet
from ldf_video.levels.frechet import Gaussian, frechet_distance


def cloud(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def whitened(points: np.ndarray) -> np.ndarray:
    """Points of mean 0 and covariance I exactly."""
    centred = points - points.mean(0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False)).T)


@pytest.mark.parametrize("dimensions", [2, 7])
def test_points_are_at_no_distance_from_themselves(dimensions: int) -> None:
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


# -- intervals -----------------------------------------------------------------------------------


def points(count: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).normal(size=(count, 4))


def test_the_figure_is_the_frechet_distance() -> None:
    a, b = points(130, seed=0), points(97, seed=1, shift=1, scale=2)
    found = frechet(Cloud(a), Cloud(b))
    assert found.value == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert found.low < found.value < found.high


def test_each_resample_leaves_a_run_of_neighbours_out() -> None:
    a = points(103, seed=0)  # tenths of 11, 11, 11, 10, ...
    cloud = Cloud(a.astype(np.float32))
    a = a.astype(np.float32).astype(np.float64)
    assert (len(cloud.without), GROUPS) == (10, 10)
    for (first, last), found in zip([(0, 11), (11, 22)], cloud.without, strict=False):
        expected = Gaussian.of(np.delete(a, np.s_[first:last], axis=0))
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
        np.testing.assert_allclose(found.covariance, expected.covariance, atol=1e-12)


def test_the_interval_by_hand() -> None:
    a, b = points(40, seed=0), points(40, seed=1, shift=2)
    left = [
        frechet_distance(np.delete(a, rows, axis=0), np.delete(b, rows, axis=0))
        for rows in np.split(np.arange(40), 10)
    ]
    spread = np.sqrt(0.9 * np.square(np.array(left) - np.mean(left)).sum())
    value = frechet_distance(a, b)
    expected = (value, value - STUDENT * spread, value + STUDENT * spread)
    found = frechet(Cloud(a), Cloud(b))
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.left == pytest.approx(left, rel=1e-9)


def test_a_cloud_is_at_no_distance_from_itself() -> None:
    cloud = Cloud(points(60, seed=0))
    found = frechet(cloud, cloud)
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_about_95_of_100_intervals_hold_what_such_clouds_give_on_average(shift: float) -> None:
    found = [
        frechet(Cloud(points(200, seed=2 * n)), Cloud(points(200, seed=2 * n + 1, shift=shift)))
        for n in range(200)
    ]
    mean = np.mean([estimate.value for estimate in found])
    share = np.mean([estimate.low <= mean <= estimate.high for estimate in found])
    assert 0.88 <= share <= 1


def test_the_difference_of_two_sets_by_hand() -> None:
    reference, a, b = (Cloud(points(40, seed=n, shift=n)) for n in range(3))
    one, two = frechet(reference, a), frechet(reference, b)
    left = np.array(one.left) - two.left
    spread = np.sqrt(0.9 * np.square(left - left.mean()).sum())
    found = difference(one, two)
    value = one.value - two.value
    expected = (value, value - STUDENT * spread, value + STUDENT * spread)
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.value < 0  # the nearer one, less the farther one


def test_paired_differences_tell_apart_what_overlap_does_not() -> None:
    """Of two sets, one a little farther off; the reference's own chance is in both distances."""
    clear, apart, level = 0, 0, 0
    for n in range(60):
        reference = Cloud(points(200, seed=4 * n))
        near, far, same = (
            frechet(reference, Cloud(points(200, seed=4 * n + k, shift=shift)))
            for k, shift in ((1, 1.0), (2, 1.15), (3, 1.0))
        )
        clear += difference(far, near).low > 0
        apart += far.low > near.high
        level += difference(same, near).low <= 0 <= difference(same, near).high
    assert clear > apart + 10
    assert level >= 0.88 * 60  # equal sets are not told apart


def test_resampling_with_replacement_would_not_hold_the_figure() -> None:
    """Why it is not done: copies inflate every resample of two near clouds."""
    a, b = points(200, seed=0), points(200, seed=1)
    value, rng = frechet_distance(a, b), np.random.default_rng(2)
    again = [
        frechet_distance(a[rng.integers(200, size=200)], b[rng.integers(200, size=200)])
        for _ in range(200)
    ]
    assert np.percentile(again, 2.5) > value  # the whole interval lies above the figure
    assert frechet(Cloud(a), Cloud(b)).low < value


def test_points_of_one_episode_are_left_out_together() -> None:
    """Twenty episodes of twenty points: the spread is that of twenty, not of four hundred."""
    episodes = points(20, seed=0).repeat(20, axis=0)
    shuffled = np.random.default_rng(1).permutation(episodes)
    other = Cloud(points(400, seed=2, shift=3))
    in_order, out_of_order = frechet(Cloud(episodes), other), frechet(Cloud(shuffled), other)
    assert in_order.value == pytest.approx(out_of_order.value)
    assert in_order.high - in_order.low > 2 * (out_of_order.high - out_of_order.low)


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="got 19 points, expected 20 or more"):
        Cloud(points(19, seed=0))


def test_directions_are_those_of_largest_spread() -> None:
    rng = np.random.default_rng(0)
    spreads = np.array([0.1, 9, 0.1, 3, 1])
    points = (rng.normal(size=(4000, 5)) * spreads + 7).astype(np.float32)
    found = Directions.fit(points, count=3)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(3), atol=1e-5)
    assert np.abs(found.axes).argmax(0).tolist() == [1, 3, 4]
    projected = found.project(points.reshape(40, 100, 5)).reshape(-1, 3)
    np.testing.assert_allclose(projected.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(projected.std(0), [9, 3, 1], rtol=0.05)
    assert Directions.fit(points, count=64).axes.shape == (5, 5)
