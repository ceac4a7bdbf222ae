"""Frechet distances of known clouds, their intervals, principal directions, who is near whom."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation import clouds
from ldf_video.evaluation.clouds import (
    STUDENT,
    Cloud,
    Directions,
    Diversity,
    difference,
    diversity,
    frechet,
)
from ldf_video.levels.frechet import frechet_distance


def points(
    count: int, *, seed: int = 0, shift: float = 0.0, scale: float = 1.0, d: int = 4
) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).normal(size=(count, d))


def whitened(points: np.ndarray) -> np.ndarray:
    """Points of mean 0 and covariance I exactly."""
    centred = points - points.mean(0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred, rowvar=False)).T)


def test_known_gaussians() -> None:
    a = whitened(points(60, d=3))
    # Of diagonal covariances: the sum of squared differences of the standard deviations.
    b = whitened(points(80, d=3, seed=1)) * [2.0, 0.5, 1.0] + np.array([3, 0, 4])
    assert frechet_distance(a, b) == pytest.approx(25 + 1 + 0.25)
    assert frechet_distance(b, a) == pytest.approx(25 + 1 + 0.25)


def test_covariances_that_do_not_commute() -> None:
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    first = np.array([[4.0, 0.0], [0.0, 1.0]])
    second = turn @ np.diag([9.0, 0.25]) @ turn.T
    a = whitened(points(60, d=2)) @ np.linalg.cholesky(first).T
    b = whitened(points(70, d=2, seed=1)) @ np.linalg.cholesky(second).T
    # Of a 2 x 2 matrix M: trace of its root is sqrt(trace M + 2 sqrt(det M)).
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(a, b) == pytest.approx(np.trace(first + second) - 2 * root)


def test_one_dimension_and_collapse() -> None:
    line = points(30, d=1)
    spread = line.std(ddof=1)
    still = np.full((10, 1), line.mean())
    assert frechet_distance(line, still) == pytest.approx(spread**2)
    assert frechet_distance(line, 3 * line - 2 * line.mean()) == pytest.approx(4 * spread**2)


def test_fewer_points_than_dimensions() -> None:
    few = points(4, d=9)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(frechet_distance(few, points(5, d=9, seed=2)))


# -- intervals -------------------------------------------------------------------------------------


def without_each_tenth(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances without a run of neighbours of each cloud, tenths of 5, 5, 5, 4, ... points."""
    runs = zip(np.array_split(a, 10), np.array_split(b, 10), strict=True)
    return np.array(
        [
            frechet_distance(
                a[~np.isin(a, one).all(1)],
                b[~np.isin(b, two).all(1)],
            )
            for one, two in runs
        ]
    )


def interval(value: float, left: np.ndarray) -> tuple[float, float, float]:
    reach = STUDENT * np.sqrt(0.9 * np.square(left - left.mean()).sum())
    return value, value - reach, value + reach


def test_the_interval_by_hand() -> None:
    a, b = points(43), points(47, seed=1, shift=2)
    left = without_each_tenth(a, b)
    found = frechet(Cloud(a), Cloud(b))
    expected = interval(frechet_distance(a, b), left)
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.left == pytest.approx(left, rel=1e-9)


def test_the_difference_of_two_sets_by_hand() -> None:
    reference, a, b = (Cloud(points(40, seed=n, shift=n)) for n in range(3))
    one, two = frechet(reference, a), frechet(reference, b)
    found = difference(one, two)
    expected = interval(one.value - two.value, np.array(one.left) - two.left)
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.value < 0  # the nearer one, less the farther one


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_about_95_of_100_intervals_hold_what_such_clouds_give_on_average(shift: float) -> None:
    found = [
        frechet(Cloud(points(200, seed=2 * n)), Cloud(points(200, seed=2 * n + 1, shift=shift)))
        for n in range(200)
    ]
    mean = np.mean([estimate.value for estimate in found])
    share = np.mean([estimate.low <= mean <= estimate.high for estimate in found])
    assert 0.88 <= share <= 1


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


def test_points_of_one_episode_are_left_out_together() -> None:
    """Twenty episodes of twenty points: the spread is that of twenty, not of four hundred."""
    episodes = points(20).repeat(20, axis=0)
    shuffled = np.random.default_rng(1).permutation(episodes)
    other = Cloud(points(400, seed=2, shift=3))
    in_order, out_of_order = frechet(Cloud(episodes), other), frechet(Cloud(shuffled), other)
    assert in_order.value == pytest.approx(out_of_order.value)
    assert in_order.high - in_order.low > 2 * (out_of_order.high - out_of_order.low)


def test_directions_are_those_of_largest_spread() -> None:
    spreads = np.array([0.1, 9, 0.1, 3, 1])
    cloud = (points(4000, d=5) * spreads + 7).astype(np.float32)
    found = Directions.fit(cloud, count=3)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(3), atol=1e-5)
    assert np.abs(found.axes).argmax(0).tolist() == [1, 3, 4]
    projected = found.project(cloud.reshape(40, 100, 5)).reshape(-1, 3)
    np.testing.assert_allclose(projected.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(projected.std(0), [9, 3, 1], rtol=0.05)
    assert Directions.fit(cloud, count=64).axes.shape == (5, 5)
    assert Directions.fit(cloud[:4], count=64).axes.shape == (5, 3)  # of a fourth nothing is known
    assert Directions.fit(cloud[:4], count=2).axes.shape == (5, 2)


# -- who lies near whom ----------------------------------------------------------------------------


def line(*places: float) -> np.ndarray:
    return np.array(places, float)[:, None]


@pytest.mark.parametrize("rows_at_once", [256, 2])
def test_neighbours_by_hand_on_a_line(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(clouds, "ROWS_AT_ONCE", rows_at_once)
    real = line(0, 1, 2, 10)  # reach to the nearest other: 1, 1, 1, 8
    judged = line(0.5, 0.6, 30)  # reach: 0.1, 0.1, 29.4
    # 0.5 lies in the balls of 0, 1; 0.6 in those of 0, 1; 30 in none, nor do they reach 10's ball
    # of 8, which ends at 2. Of the real ones, 30's ball of 29.4 holds 1, 2 and 10, but not 0.
    assert diversity(real, judged, neighbours=1) == Diversity(
        precision=pytest.approx(2 / 3),
        recall=pytest.approx(3 / 4),
        density=pytest.approx(4 / (1 * 3)),
        coverage=pytest.approx(2 / 4),
    )
    real = line(0, 1, 3)  # reach to the second nearest other: 3, 2, 3
    judged = line(-2, 5.5, 6)  # reach: 8, 7.5, 8
    # -2 lies in 0's ball; 5.5 and 6 lie in 3's. Of 1's ball from -1 to 3 there is none.
    assert diversity(real, judged, neighbours=2) == Diversity(
        precision=1.0, recall=1.0, density=3 / 6, coverage=2 / 3
    )
