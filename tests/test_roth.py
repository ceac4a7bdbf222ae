"""Roth's regularizer: its schedule, the controller of its weight, and its precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ldf_video.models.losses import PENALTIES, RothConfig, RothRegularizer, as_roth, roth_penalty


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
    penalties = RothRegularizer(RothConfig()).penalty(D, real=real, fake=fake)
    for penalty, inputs, is_real in zip(penalties, (real, fake), (True, False), strict=True):
        seen = [part.clone().requires_grad_() for part in inputs]
        logits = D(*seen)
        error = torch.sigmoid(-logits if is_real else logits)
        expected = roth_penalty(logits, seen, error=error).item()
        assert penalty.item() == pytest.approx(expected, rel=1e-6)
    sum(penalties).backward()
    assert D.of_x.weight.grad.abs().max() > 0
    assert all(part.grad is None for part in (*real, *fake))


def test_under_autocast_the_penalty_is_in_float32() -> None:
    D, (real, fake) = Counted(), pairs(torch.bfloat16)
    regularizer = RothRegularizer(RothConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        D(*real)
        assert D.seen[-1] == torch.bfloat16  # autocast is at work
        D.seen.clear()
        penalty = sum(regularizer.penalty(D, real=real, fake=fake))
        loss = regularizer.weight(0.0) * penalty
    assert set(D.seen) == {torch.float32}
    assert penalty.dtype == loss.dtype == torch.float32
    plain = regularizer.penalty(D, real=[x.float() for x in real], fake=[x.float() for x in fake])
    assert torch.equal(penalty, sum(plain))


@pytest.mark.parametrize("offset", [0.0, 18.0, -18.0])
def test_the_penalties_of_a_d_whose_logits_have_an_offset(offset: float) -> None:
    """By hand, of D(x, z) = w x + v z + b, whose gradient is (w, v) everywhere."""
    D, (real, fake) = Counted(), pairs()
    with torch.no_grad():
        D.of_z.bias.fill_(offset)
    high, low = (D(*inputs).detach() for inputs in (real, fake))
    steep = torch.cat([D.of_x.weight, D.of_z.weight], 1).square().sum().item()
    pair = torch.sigmoid(low - high).square().mean().item()
    expected = {
        "roth": (torch.sigmoid(-high).square().mean(), torch.sigmoid(low).square().mean()),
        "pair": (pair, pair),
        "r1r2": (1.0, 1.0),
    }
    assert tuple(expected) == PENALTIES
    for name, weights in expected.items():
        found = RothRegularizer(RothConfig(penalty=name)).penalty(D, real=real, fake=fake)
        for side, weight in zip(found, weights, strict=True):
            assert side.item() == pytest.approx(float(weight) * steep, rel=1e-5)
    if offset:  # Roth's weights then switch one side off; the pair's error does not see an offset
        assert min(expected["roth"]) < 1e-10
        assert pair > 0.01


def test_an_unknown_penalty_is_refused_and_an_old_config_keeps_roths() -> None:
    with pytest.raises(ValueError, match=r"penalty 'r3': expected roth, pair, r1r2"):
        RothConfig(penalty="r3")
    assert as_roth({"gamma": 2.0}).penalty == "roth"
