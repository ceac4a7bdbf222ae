"""Precision, recall, density and coverage of clouds worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation import diversity as room
from ldf_video.evaluation.diversity import Diversity, diversity


def line(*places: float) -> np.ndarray:
    """Points on a line."""
    return np.array(places, float)[:, None]


def test_by_hand_on_a_line() -> None:
    real = line(0, 1, 2, 10)  # reach to the nearest other: 1, 1, 1, 8
    judged = line(0.5, 0.6, 30)  # reach: 0.1, 0.1, 29.4
    found = diversity(real, judged, neighbours=1)
    # 0.5 lies in the balls of 0, 1; 0.6 in those of 0, 1; 30 in none, nor do they reach 10's ball
    # of 8, which ends at 2. Of the real ones, 30's ball of 29.4 holds 1, 2 and 10, but not 0.
    assert found == Diversity(
        precision=pytest.approx(2 / 3),
        recall=pytest.approx(3 / 4),
        density=pytest.approx(4 / (1 * 3)),
        coverage=pytest.approx(2 / 4),
    )


def test_two_neighbours_by_hand() -> None:
    real = line(0, 1, 3)  # reach to the second nearest other: 3, 2, 3
    judged = line(-2, 5.5, 6)  # reach: 8, 7.5, 8
    found = diversity(real, judged, neighbours=2)
    # -2 lies in 0's ball; 5.5 and 6 lie in 3's. Of 1's ball from -1 to 3 there is none.
    assert found == Diversity(precision=1.0, recall=1.0, density=3 / 6, coverage=2 / 3)


def test_a_cloud_covers_itself() -> None:
    points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    found = diversity(points, points)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_a_few_clips_repeated_cover_little_and_recall_nothing() -> None:
    rng = np.random.default_rng(0)
    real, others = rng.normal(size=(2, 300, 2))
    repeated = others[:10].repeat(30, axis=0)
    found, fair = diversity(real, repeated), diversity(real, others)
    assert fair.recall > 0.9
    assert fair.coverage > 0.9
    assert found.recall == 0  # their balls have no size
    assert found.coverage < 0.5
    assert found.precision > 0.7  # which it cannot see


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, judged = np.random.default_rng(0).normal(size=(2, 57, 3))
    whole = diversity(real, judged[:41])
    monkeypatch.setattr(room, "_ROWS", 10)
    assert diversity(real, judged[:41]) == whole
