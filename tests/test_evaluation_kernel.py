"""The kernel distance: by hand, and unbiased."""

from __future__ import annotations

import numpy as np
import pytest

from ldf_video.evaluation import kernel
from ldf_video.evaluation.kernel import KernelCloud, kernel_distance


def points(count: int, *, seed: int, spread: float = 1.0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (spread * rng.standard_normal((count, 6)) + shift).astype(np.float32)


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. (2018), pair by pair."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        pairs = ((u, v) for u in a for v in b if u is not v)
        return float(np.mean([(u @ v / len(u) + 1) ** 3 for u, v in pairs]))

    x, y = list(x), list(y)
    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.parametrize("rows_at_once", [256, 2])
def test_pair_by_pair(monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(kernel, "ROWS_AT_ONCE", rows_at_once)
    x, y = points(33, seed=1, shift=5), points(21, seed=2, shift=5.5)
    found = kernel_distance(KernelCloud(x), y)
    centre = x.mean(0)
    scale = np.sqrt(np.square(x - centre).mean())
    ours, theirs = ((c - centre) / scale for c in (x, y))
    assert found.value == pytest.approx(by_hand(ours, theirs), rel=1e-4)
    without = by_hand(ours[4:], theirs[3:])  # as many as the first of ten parts of each
    assert found.left[0] == pytest.approx(without, rel=1e-4)


def test_it_is_unbiased_and_sees_what_the_mean_does_not_show() -> None:
    same = [
        kernel_distance(KernelCloud(points(40, seed=s)), points(20, seed=s + 99)) for s in range(60)
    ]
    values = np.array([found.value for found in same])
    assert abs(values.mean()) < 2.5 * values.std() / np.sqrt(60)
    assert np.mean([found.low < 0 < found.high for found in same]) > 0.8
    reference = KernelCloud(points(400, seed=1))
    assert kernel_distance(reference, points(300, seed=2, spread=1.3)).low > 0.05
    assert kernel_distance(reference, points(300, seed=2, shift=0.5)).low > 0.05
    scaled = KernelCloud(points(400, seed=1) * 7 + 3)  # units of features do not matter
    far = [kernel_distance(reference, points(90, seed=2, spread=2))]
    far.append(kernel_distance(scaled, points(90, seed=2, spread=2) * 7 + 3))
    assert far[0].value == pytest.approx(far[1].value, rel=1e-3)
