"""Neighbours: precision, recall, density and coverage by hand; the nearest training clip."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_judge import moving_clips

from ldf_video.evaluation import diversity as balls
from ldf_video.evaluation import nearest
from ldf_video.evaluation.diversity import Diversity, diversity
from ldf_video.evaluation.nearest import (
    MAX_CLIPS,
    Memorisation,
    compare,
    evenly_spread,
    nearest_levels,
)


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
    monkeypatch.setattr(balls, "_ROWS", 10)
    assert diversity(real, judged[:41]) == whole


# -- the nearest training clip -------------------------------------------------------------------


def by_brute_force(clips: np.ndarray, train: np.ndarray) -> np.ndarray:
    difference = clips[:, None].astype(float) - train
    return np.sqrt(np.square(difference).mean((2, 3, 4, 5)).min(1))


def test_exact_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    train, clips = moving_clips(33, seed=0), moving_clips(17, seed=1)
    clips[3] = train[20]
    clips[4] = train[5]
    clips[4, 2, 7, 7, 1] ^= 1  # one level of one pixel's green
    monkeypatch.setattr(nearest, "_TRAIN_CLIPS", 10)
    monkeypatch.setattr(nearest, "_LOOKED_UP", 7)
    counts: list[int] = []
    found = nearest_levels({"a": clips, "b": train[:2]}, iter(train), on_block=counts.append)
    np.testing.assert_allclose(found["a"], by_brute_force(clips, train), rtol=1e-12)
    assert found["a"][3] == 0
    assert found["a"][4] == pytest.approx(np.sqrt(1 / clips[4].size))
    assert found["b"].tolist() == [0, 0]
    assert counts == [10, 20, 30, 33]


def test_no_training_clip_is_nowhere_near() -> None:
    assert np.isinf(nearest_levels({"a": moving_clips(2)}, [])["a"]).all()


def test_comparing_by_hand() -> None:
    real = np.arange(100.0, 300.0)  # the nearest percent: below 101.99, by a clip that there is 101
    judged = np.array([1.0, 101.0, 102.0, 400.0])
    assert compare(judged, real) == Memorisation(
        median_levels=101.5, real_median_levels=199.5, copied_percent=50
    )
    assert compare(real, real).copied_percent == 1


def test_copies_are_told_from_new_clips() -> None:
    train, held_out, new = (moving_clips(80, seed=seed) for seed in range(3))
    copied = train[::-1].copy()
    copied[:, :, 0, 0] ^= 3
    found = nearest_levels({"real": held_out, "copied": copied, "new": new}, train)
    assert compare(found["copied"], found["real"]).copied_percent == 100
    assert compare(found["new"], found["real"]).copied_percent < 10


def test_some_are_evenly_spread() -> None:
    clips = np.arange(2500)
    assert evenly_spread(clips[:1000]).tolist() == clips[:1000].tolist()
    spread = evenly_spread(clips)
    assert len(spread) == MAX_CLIPS == len(set(spread.tolist()))
    assert (spread[0], spread[-1]) == (0, 2499)
