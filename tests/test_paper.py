"""The scripts that measure the paper's claims."""

from __future__ import annotations

import covariance
import numpy as np
import pytest


@pytest.mark.parametrize("kind", [covariance.Videos, covariance.OneFactor])
def test_samples_have_the_covariance_that_a_truth_says(kind: type[covariance.Truth]) -> None:
    rng = np.random.default_rng(0)
    truth = kind(32, 2.0, rng)
    found = np.cov(covariance.joint(truth, 40_000, rng).T, bias=True)
    assert covariance.error(found - 2 * np.eye(32), truth.covariance) < 0.03


@pytest.mark.parametrize("kind", [covariance.Videos, covariance.OneFactor])
def test_each_learner_comes_to_the_truth_with_many_samples(kind: type[covariance.Truth]) -> None:
    found = covariance.errors(kind, 32, 2.0, [4, 20_000], seeds=1)
    assert set(found) == {*covariance.LEARNERS, covariance.ONE_FRAME}
    for ((few, many),) in found.values():
        assert many < 0.02
        assert many < few


@pytest.mark.parametrize(
    ("medians", "expected"),
    [([1.0, 0.25], 2**0.5), ([0.4, 0.1], 1.0), ([2.0, 0.6], None), ([0.4, 0.8], None)],
)
def test_crossing_lies_where_the_error_is_one_half(
    medians: list[float], expected: float | None
) -> None:
    found = covariance.crossing([1, 2], [medians])
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_slope_leaves_out_what_may_be_less_than_the_first_number_that_was_tried() -> None:
    assert covariance.slope([1, 2, 4, 8], [1.0, 2.0, 8.0, 32.0], least=1) == pytest.approx(2)
    assert covariance.slope([1, 2, 4], [1.0, 2.0, 8.0], least=1) is None
