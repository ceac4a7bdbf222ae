"""Roth's regularizer: its schedule, the controller of its weight, and its precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ldf_video.models.losses import roth_penalty
from ldf_video.models.roth import RothConfig, RothRegularizer


def test_it_is_due_every_interval_and_scaled_up_by_it() -> None:
    regularizer = RothRegularizer(RothConfig(gamma=2.0, gamma_floor=0.25, interval=3))
    assert [step for step in range(8) if regularizer.is_due(step)] == [0, 3, 6]
    for progress, gamma in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.5)):  # geometric
        assert regularizer.weight(progress).item() == pytest.approx(0.5 * 3 * gamma)
    regularizer.pressure.fill_(10)
    assert regularizer.weight(0.0).item() == pytest.approx(0.5 * 3 * 2 * 10)


def test_pressure_rises_while_d_wins_and_falls_back_to_1() -> None:
    regularizer = RothRegularizer(RothConfig(target=0.4, pressure_rate=0.5, pressure_limit=4.0))
    for expected in (math.exp(0.5), math.exp(1.0), 4.0, 4.0):
        regularizer.press(torch.tensor(0.39))
        assert regularizer.pressure.item() == pytest.approx(expected)
    for expected in (4 * math.exp(-0.5), 4 * math.exp(-1.0), 1.0, 1.0):
        regularizer.press(torch.tensor(0.41))
        assert regularizer.pressure.item() == pytest.approx(expected)


def test_pressure_is_saved_and_is_no_weight() -> None:
    regularizer = RothRegularizer(RothConfig())
    assert list(regularizer.state_dict()) == ["pressure"]
    assert list(regularizer.parameters()) == []


class Counted(nn.Module):
    """A linear D that notes the precision of what it is given and gives."""

    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_z = nn.Linear(3, 1), nn.Linear(2, 1)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        logits = (self.of_x(x) + self.of_z(z)).squeeze(1)
        self.seen += [x.dtype, z.dtype, logits.dtype]
        return logits


def pairs(dtype: torch.dtype = torch.float32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    numbers = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(4, 3, generator=numbers).to(dtype),
            torch.randn(4, 2, generator=numbers).to(dtype),
        )
        for _ in range(2)
    ]


def test_the_penalty_is_that_of_real_and_of_generated_pairs() -> None:
    D, (real, fake) = Counted(), pairs()
    penalty = RothRegularizer(RothConfig()).penalty(D, real=real, fake=fake)
    expected = 0.0
    for inputs, is_real in ((real, True), (fake, False)):
        seen = [part.clone().requires_grad_() for part in inputs]
        expected += roth_penalty(D(*seen), seen, real=is_real).item()
    assert penalty.item() == pytest.approx(expected, rel=1e-6)
    penalty.backward()
    assert D.of_x.weight.grad.abs().max() > 0
    assert all(part.grad is None for part in (*real, *fake))


def test_under_autocast_the_penalty_is_in_float32() -> None:
    D, (real, fake) = Counted(), pairs(torch.bfloat16)
    regularizer = RothRegularizer(RothConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        D(*real)
        assert D.seen[-1] == torch.bfloat16  # autocast is at work
        D.seen.clear()
        penalty = regularizer.penalty(D, real=real, fake=fake)
        loss = regularizer.weight(0.0) * penalty
    assert set(D.seen) == {torch.float32}
    assert penalty.dtype == loss.dtype == torch.float32
    plain = regularizer.penalty(D, real=[x.float() for x in real], fake=[x.float() for x in fake])
    assert torch.equal(penalty, plain)
