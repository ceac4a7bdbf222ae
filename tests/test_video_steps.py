"""Distances between frames, counted as videos are made."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ldf_video.video.steps import Steps


def videos(seed: int, num_frames: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scale = rng.integers(1, 256, (3, num_frames, 1, 1, 1))
    return (rng.integers(0, 256, (3, num_frames, 4, 4, 3)) % scale).astype(np.uint8)


def test_counts_say_what_all_distances_together_would() -> None:
    steps, near, seams = Steps(), list[float](), list[float]()
    for seed in range(2):
        frames = videos(seed, 41)
        for part in np.split(frames, [3, 4, 20], axis=1):
            steps.add(part)
        steps.close()
        moved = np.abs(np.diff(frames.astype(int), axis=1)).mean((2, 3, 4))
        near += moved.ravel().tolist()
        seams += np.abs(frames[:, -1].astype(int) - frames[:, 0]).mean((1, 2, 3)).tolist()
    for share in (0, 5, 33, 50, 95, 100):
        assert steps.percentile(share) == pytest.approx(np.percentile(near, share), abs=0.001)
    found = steps.seams()
    assert found.distances == pytest.approx(seams, abs=0.001)
    assert (found.low, found.high) == (steps.percentile(5), steps.percentile(95))


def test_an_even_circle_has_a_seam_like_every_step() -> None:
    steps = Steps()
    ring = np.zeros((1, 7, 1, 7, 3), np.uint8)
    ring[0, np.arange(7), 0, np.arange(7)] = 1
    steps.add(ring)
    steps.close()
    assert steps.seams().unseen == 1


def test_memory_does_not_grow_with_the_length() -> None:
    steps = Steps()
    big = np.zeros((4, 16, 64, 64, 3), np.uint8)
    steps.add(big)
    tracemalloc.start()
    for _ in range(20):
        steps.add(big.copy())
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2 * big[:, 0].nbytes
