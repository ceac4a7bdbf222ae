"""The chance of an update: the same numbers however its batch is split."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldf_video.models.game import Noise, Part


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_parts_of_the_numbers_are_the_whole_numbers(count: int) -> None:
    whole = Noise(7)
    expected = [whole.normal(6, 2, 3), whole.uniform(6, 1), whole.normal(6, 5)]
    rows = 6 // count
    drawn = []
    for index in range(count):
        noise = Noise(7, Part(index, count))
        drawn.append([noise.normal(rows, 2, 3), noise.uniform(rows, 1), noise.normal(rows, 5)])
    for number, one in enumerate(expected):
        assert torch.equal(torch.cat([part[number] for part in drawn]), one)


def test_numbers_are_of_the_seed_and_new_at_each_call() -> None:
    first, again, other = Noise(1), Noise(1), Noise(2)
    a, b = first.normal(4, 3), first.normal(4, 3)
    assert torch.equal(a, again.normal(4, 3))
    assert not torch.equal(a, b)
    assert not torch.equal(a, other.normal(4, 3))


def test_the_numbers_have_their_distributions() -> None:
    normal, uniform = Noise(0).normal(10_000), Noise(0).uniform(10_000)
    assert normal.mean().abs() < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert (uniform.min() >= 0, uniform.max() < 1) == (True, True)
    assert abs(uniform.mean() - 0.5) < 0.02


def test_torchs_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    Noise(1).normal(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_that_cannot_be_divided_are_refused() -> None:
    assert Part(1, 3).of(np.arange(6)).tolist() == [2, 3]
    assert Part(1, 3).of(torch.arange(6)).tolist() == [2, 3]
    assert Part().of(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="7 rows: expected a multiple of 3"):
        Part(0, 3).of(np.arange(7))
