"""Which items an update sees."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ldf_video.training.update import frame_indices, windows

LENGTHS = np.array([1, 5, 4, 9, 2, 16])
"""With windows of 4 frames: 1, 2, 1, 6, 1 and 13 places to start."""


def draw(seed: int = 0, step: int = 0, *, batch_size: int = 500):
    return windows(seed, step, lengths=LENGTHS, window=4, batch_size=batch_size)


def test_draws_are_functions_of_seed_and_step() -> None:
    for function in (
        lambda seed, step: frame_indices(seed, step, num_frames=1000, batch_size=64),
        lambda seed, step: np.stack(draw(seed, step)),
    ):
        assert np.array_equal(function(3, 7), function(3, 7))
        different = {function(*pair).tobytes() for pair in [(3, 7), (7, 3), (3, 8), (4, 7)]}
        assert len(different) == 4


def test_frame_indices_cover_all_frames_and_no_other() -> None:
    indices = frame_indices(0, 0, num_frames=7, batch_size=500)
    assert indices.shape == (500,)
    assert set(indices.tolist()) == set(range(7))


def test_every_possible_window_is_drawn_and_no_other() -> None:
    clips, starts = draw()
    possible = {
        (clip, start) for clip, length in enumerate(LENGTHS) for start in range(max(length - 3, 1))
    }
    assert len(possible) == 24
    assert set(zip(clips.tolist(), starts.tolist(), strict=True)) == possible


def test_windows_are_equally_likely_whatever_clip_they_lie_in(monkeypatch) -> None:
    """Each number that the generator can give is one window: equal chances follow from its own."""

    class Counting:
        def integers(self, high: int, size: int) -> np.ndarray:
            assert size == high == 24
            return np.arange(high)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counting())
    clips, starts = draw(batch_size=24)
    assert Counter(clips.tolist()) == {0: 1, 1: 2, 2: 1, 3: 6, 4: 1, 5: 13}
    assert starts.tolist() == [0, 0, 1, 0, *range(6), 0, *range(13)]


def test_windows_stay_inside_long_clips_and_short_ones_start_at_0() -> None:
    clips, starts = draw(batch_size=2000)
    ends = starts + 4
    long = LENGTHS[clips] >= 4
    assert (ends[long] <= LENGTHS[clips[long]]).all()
    assert (starts[~long] == 0).all()
    assert set(clips[~long].tolist()) == {0, 4}
    assert clips.dtype == starts.dtype == np.int64


@pytest.mark.parametrize("num_clips", [1, 3])
def test_clips_that_are_all_too_short(num_clips: int) -> None:
    clips, starts = windows(0, 0, lengths=np.full(num_clips, 2), window=16, batch_size=50)
    assert set(clips.tolist()) == set(range(num_clips))
    assert not starts.any()
