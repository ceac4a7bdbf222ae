"""Tracks: things of known steps, and things that come and go."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation import change, tracks
from ldf_video.evaluation.tracks import Moves, circular_wasserstein, compare, wasserstein


def things(down: int, right: int, *, side: int = 32, count: int = 40, size: int = 8) -> np.ndarray:
    """Clips of a patterned square that moves over even ground by the same step every frame."""
    rng = np.random.default_rng(0)
    clips = np.full((count, 4, side, side, 3), 60, np.uint8)
    for clip in clips:
        thing = rng.integers(0, 256, (size // 2, size // 2, 1), np.uint8).repeat(2, 0).repeat(2, 1)
        top, left = rng.integers(side // 4, side // 2, 2)
        for number, frame in enumerate(clip):
            y, x = top + number * down, left + number * right
            frame[y : y + size, x : x + size] = thing
    return clips


@pytest.mark.parametrize(
    ("down", "right", "pixels", "degrees"),
    [(0, 1, 0, 0), (0, 3, 2, 0), (1, 0, 0, 90), (0, -1, 0, 180), (-2, 0, 1, 90)],
)
def test_steps_by_hand(down: int, right: int, pixels: float, degrees: float) -> None:
    found = compare(Moves.of(things(0, 1)), Moves.of(things(down, right)))
    assert found.step_pixels.value == pytest.approx(pixels, abs=0.4)
    assert found.direction_degrees.value == pytest.approx(degrees, abs=20)


def test_steps_of_larger_frames_are_in_their_pixels() -> None:
    large = things(0, 2, side=64, size=16), things(0, 4, side=64, size=16)
    found = compare(*(Moves.of(clips) for clips in large))
    assert found.step_pixels.value == pytest.approx(2, abs=0.6)
    assert found.direction_degrees.value == pytest.approx(0, abs=20)


def test_what_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Moves.of(things(0, 1))
    moving = compare(real, real)
    going = things(0, 0)
    going[:, 2:] = 60
    coming = going[:, ::-1]
    left, came = (compare(real, Moves.of(clips)) for clips in (going, coming))
    assert moving.step_pixels.value == moving.direction_degrees.value == 0
    assert left.vanish_percent.value == came.appear_percent.value == 100
    assert moving.vanish_percent.high < 60
    still = compare(real, Moves.of(things(0, 0)))
    assert np.isnan([still.step_pixels.value, still.vanish_percent.value]).all()
    monkeypatch.setattr(change, "FRAMES_AT_ONCE", 12)
    monkeypatch.setattr(tracks, "PATCHES_AT_ONCE", 7)
    assert (Moves.of(things(0, 1)).counts == real.counts).all()


def test_frames_that_are_far_higher_than_wide() -> None:
    moves = Moves.of(np.zeros((2, 3, 1024, 16, 3), np.uint8))
    assert (moves.scale, moves.counts.sum()) == (16, 0)


def test_wasserstein_by_hand() -> None:
    values = np.array([0.0, 4.0, 1.0])
    p, q = np.array([1.0, 0, 0]), np.array([0, 0.5, 0.5])
    assert wasserstein(values, p, q) == wasserstein(values, q, p) == 2.5
    # an eighth of the way round, whichever way it goes; and half round for half of it
    one, last, opposite = np.eye(8)[[0, 7, 4]]
    assert circular_wasserstein(one, last) == 1
    assert circular_wasserstein(one, opposite) == 4
    assert circular_wasserstein(one, (one + opposite) / 2) == 2
