"""The nearest training clip: exact, and what copies look like."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_judge import moving_clips

from ldf_video.evaluation import nearest as room
from ldf_video.evaluation.nearest import Memorisation, compare, nearest_levels, some


def by_brute_force(clips: np.ndarray, train: np.ndarray) -> np.ndarray:
    difference = clips[:, None].astype(float) - train
    return np.sqrt(np.square(difference).mean((2, 3, 4, 5)).min(1))


def test_exact_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    train, clips = moving_clips(33, seed=0), moving_clips(17, seed=1)
    clips[3] = train[20]
    clips[4] = train[5]
    clips[4, 2, 7, 7, 1] ^= 1  # one level of one pixel's green
    monkeypatch.setattr(room, "_TRAIN_CLIPS", 10)
    monkeypatch.setattr(room, "_LOOKED_UP", 7)
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
    assert some(clips[:1000]) is not None
    assert some(clips[:1000]).tolist() == clips[:1000].tolist()
    spread = some(clips)
    assert len(spread) == room.MAX_CLIPS == len(set(spread.tolist()))
    assert (spread[0], spread[-1]) == (0, 2499)
