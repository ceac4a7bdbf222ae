"""Averaged weights against the recursion written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldf_video.training.optim import Average


class Number(nn.Module):
    count: torch.Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("count", torch.tensor(0))


def test_the_average_by_hand() -> None:
    number = Number(1.0)
    average = Average(number, decay=0.25)
    expected = 1.0
    for step, (value, decay) in enumerate([(3.0, 1 / 10), (5.0, 2 / 11), (7.0, 0.25), (9.0, 0.25)]):
        with torch.no_grad():
            number.weight.fill_(value)
        average.update(number, step=step)
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)


def test_buffers_are_copied() -> None:
    number = Number(1.0)
    average = Average(number, decay=0.999)
    number.count.fill_(5)
    average.update(number, step=0)
    assert average.module.count.item() == 5


def test_the_average_is_a_copy_that_nobody_trains() -> None:
    number = Number(1.0)
    average = Average(number, decay=0.999)
    with torch.no_grad():
        number.weight.fill_(2.0)
    assert average.module.weight.item() == 1.0
    assert not average.module.weight.requires_grad
    assert not average.module.training
    assert number.weight.requires_grad
    assert number.training
