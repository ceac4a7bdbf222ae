"""Losses against numbers worked out by hand, the penalty on D, and a D that rests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_models import mlp_game, tick
from tiny_trainings import LatentLevel, run, trainer_in
from torch import nn

from ldf_video.models.game import Part
from ldf_video.models.gan import PENALTIES, GanConfig, RothConfig, RothRegularizer
from ldf_video.models.losses import (
    RunningMoments,
    binary_loss,
    relativistic_loss,
    roth_penalty,
)

if TYPE_CHECKING:
    from pathlib import Path


def log_sigmoid(logit: float) -> float:
    return math.log(1 / (1 + math.exp(-logit)))


@pytest.mark.parametrize(
    ("loss", "real", "fake", "expected"),
    [
        (relativistic_loss, [-3.0, 0.0, 5.0], [-3.0, 0.0, 5.0], math.log(2)),
        (relativistic_loss, [2.0, -1.0], [0.0, 0.0], -(log_sigmoid(2) + log_sigmoid(-1)) / 2),
        (relativistic_loss, [1e4], [-1e4], 0),
        (relativistic_loss, [-1e4], [1e4], 2e4),
        (binary_loss, [0.0, 0.0], [0.0, 0.0], 2 * math.log(2)),
        (
            binary_loss,
            [2.0, -1.0],
            [0.5, -3.0],
            -sum(log_sigmoid(logit) for logit in (2, -1, -0.5, 3)) / 2,
        ),
        (binary_loss, [1e4], [-1e4], 0),
        (binary_loss, [-1e4], [1e4], 2e4),
    ],
)
def test_losses_of_logits_by_hand(
    loss: Any, real: list[float], fake: list[float], expected: float
) -> None:
    assert loss(torch.tensor(real), torch.tensor(fake)).item() == pytest.approx(expected)


class Linear:
    """D(x, z) = w . x + v . z + b, whose gradient is (w, v) everywhere."""

    def __init__(self) -> None:
        self.w = torch.tensor([1.0, -2.0], requires_grad=True)
        self.v = torch.tensor([3.0], requires_grad=True)

    def __call__(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x @ self.w + z @ self.v + 0.5


def test_roth_penalty_reaches_the_weights_through_the_gradient() -> None:
    D = Linear()
    x = torch.zeros(1, 2, requires_grad=True)
    z = torch.zeros(1, 1, requires_grad=True)
    s = 1 / (1 + math.exp(-0.5))

    logits = D(x, z)
    roth_penalty(logits, [x, z], error=torch.sigmoid(logits)).backward()

    # At x = z = 0 the logit is 0.5 whatever w is: all of d/dw is s^2 d|w|^2/dw = 2 s^2 w.
    torch.testing.assert_close(D.w.grad, 2 * s**2 * D.w.detach())
    torch.testing.assert_close(D.v.grad, 2 * s**2 * D.v.detach())


def _normal_batches(count: int, batch: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, batch, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("change", "expected"),
    [(lambda z: z + 1, 5.0), (lambda z: 2 * z, 9.0), (lambda z: 0 * z, 1.0), (lambda z: z, 0.0)],
    ids=["shifted", "scaled", "collapsed", "normal"],
)
def test_moments_are_those_of_all_batches(change, expected) -> None:
    """Shifted by 1: |mean|^2 is 1 a dimension, and each of 4 products of two beside it is 1."""
    moments = RunningMoments(4)
    batches = change(_normal_batches(400, 8, 4))
    found = [moments(z.view(8, 4, 1, 1)).item() for z in batches]
    assert found[-1] == pytest.approx(expected, rel=0.1, abs=0.01)
    assert moments.seen == RunningMoments.FRAMES == 400 * 8
    flat = batches.flatten(0, 1)
    assert torch.allclose(moments.mean, flat.mean(0), atol=1e-5)
    assert torch.allclose(moments.second, flat.T @ flat / len(flat), atol=1e-4)


def test_a_batch_goes_along_the_gradient_of_the_distance_of_all() -> None:
    moments, z = RunningMoments(4).double(), _normal_batches(2, 3_200, 4).double()
    moments(z[0])
    batch = (3 * z[1, :8]).requires_grad_()
    moments(batch).backward()
    mean, second = (part.clone().requires_grad_() for part in (moments.mean, moments.second))
    distance = mean.square().sum() + (second - torch.eye(4)).square().sum()
    of_mean, of_second = torch.autograd.grad(distance / 4, (mean, second))
    by_hand = (of_mean + 2 * batch.detach() @ of_second) / 8
    assert torch.allclose(batch.grad, by_hand)


def test_a_latent_far_out_is_sent_back() -> None:
    """One latent in 400 lies at 40 in a direction in which all others are 0: its variance is 4."""
    z = _normal_batches(200, 16, 4)
    z[..., 0] = 0
    z[::25, 3, 0] = 40.0
    moments = RunningMoments(4)
    for batch in z:
        moments(batch)
    batch = z[0].clone().requires_grad_()
    moments(batch).backward()
    assert batch.grad[3, 0] > 0  # which is descended
    own = z[0, :, 0]
    halves = [half.square().mean() - 1 for half in own.chunk(2)]
    assert halves[0] > 0 > halves[1]  # the gradient of their product has the other one's sign


@pytest.mark.parametrize(("share", "of_a_batch"), [(0.9, 0.31), (0.04, 0.0)])
def test_cells_that_are_alike_in_a_frame_cost_nothing(share: float, of_a_batch: float) -> None:
    """Sixteen frames a batch, of 64 cells; of their variance a share is between frames.

    A batch alone adds share / 16 by its mean, 5 share^2 / 16 by its products.
    """
    numbers = torch.Generator().manual_seed(0)
    between = share**0.5 * torch.randn(200, 16, 4, 1, generator=numbers)
    frames = between + (1 - share) ** 0.5 * torch.randn(200, 16, 4, 64, generator=numbers)
    alone = torch.stack([RunningMoments(4)(batch) for batch in frames]).mean()
    assert alone.item() == pytest.approx(of_a_batch, rel=0.2, abs=0.01)
    moments = RunningMoments(4)
    assert [moments(batch).item() for batch in frames][-1] < 0.01
    cells = frames.transpose(2, 3).flatten(0, 2)
    assert torch.allclose(moments.mean, cells.mean(0), atol=1e-4)
    assert torch.allclose(moments.second, cells.T @ cells / len(cells), atol=1e-4)


def test_under_autocast_moments_are_in_float32() -> None:
    z = _normal_batches(1, 64, 4)[0].bfloat16()
    plain = RunningMoments(4)(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(RunningMoments(4)(z), plain)


def test_states_without_moments_begin_them_anew() -> None:
    moments = RunningMoments(4)
    moments.load_state_dict({})
    assert moments.seen == 0
    moments(_normal_batches(1, 64, 4)[0])
    other = RunningMoments(4)
    other.load_state_dict(moments.state_dict())
    assert torch.equal(other.second, moments.second)
    assert other.seen == 64


def test_pressure_rises_while_d_wins_and_falls_back_to_1() -> None:
    regularizer = RothRegularizer(RothConfig(target=0.4, pressure_rate=0.5, pressure_limit=4.0))
    for expected in (math.exp(0.5), math.exp(1.0), 4.0, 4.0):
        regularizer.press(torch.tensor(0.39))
        assert regularizer.pressure.item() == pytest.approx(expected)
    for expected in (4 * math.exp(-0.5), 4 * math.exp(-1.0), 1.0, 1.0):
        regularizer.press(torch.tensor(0.41))
        assert regularizer.pressure.item() == pytest.approx(expected)


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
    x, z = (torch.randn(2, 4, size, generator=numbers).to(dtype) for size in (3, 2))
    return list(zip(x, z, strict=True))


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
    sum(found).backward()
    assert D.of_x.weight.grad.abs().max() > 0
    assert all(part.grad is None for part in (*real, *fake))
    if offset:  # Roth's weights then switch one side off; the pair's error does not see an offset
        assert min(expected["roth"]) < 1e-10
        assert pair > 0.01


def test_an_unknown_penalty_is_refused_and_an_old_config_keeps_roths() -> None:
    with pytest.raises(ValueError, match=r"penalty 'r3': expected roth, pair, r1r2"):
        RothConfig(penalty="r3")
    assert GanConfig(roth={"gamma": 2.0}).roth.penalty == "roth"


def weights_after(steps: int, *, rest: float, path: Path, accumulate: int = 1) -> list[Any]:
    game = mlp_game(rest=rest)
    options = {"batch_size": 16, "accumulate": accumulate, "warmup_steps": 1}
    run(trainer_in(path, LatentLevel(game), steps=steps, **options))
    return [game, *(p.detach().clone() for p in game.discriminator.parameters())]


def test_a_resting_d_says_its_loss_without_a_gradient_or_a_penalty() -> None:
    game = mlp_game(rest=100.0)
    batch = LatentLevel(game).batch(0, Part(), torch.device("cpu"))
    moving, moving_logs = game.discriminator_loss(batch, tick(game))
    game.after_update(moving_logs)
    resting, logs = game.discriminator_loss(batch, tick(game, step=1))
    assert moving.requires_grad
    assert not resting.requires_grad
    assert "roth" in moving_logs
    assert "roth" not in logs
    assert logs["discriminator"] == moving_logs["discriminator"]
    assert (moving_logs["resting"], logs["resting"]) == (0, 1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resting_d_does_not_move_and_the_other_side_does(tmp_path: Path, accumulate: int) -> None:
    _, *before = weights_after(1, rest=100.0, path=tmp_path / "one", accumulate=accumulate)
    game, *after = weights_after(4, rest=100.0, path=tmp_path / "four", accumulate=accumulate)
    _, *moved = weights_after(4, rest=0.0, path=tmp_path / "never", accumulate=accumulate)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    fresh = mlp_game(rest=100.0)
    pairs = zip(game.model.parameters(), fresh.model.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)
