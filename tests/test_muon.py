"""Muon: orthogonal steps for hidden layers, Adam's for the rest."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_trainings import STEPS, assert_same_state, run, trainer_in
from torch import nn

from ldf_video.training.optim import MOMENTUM, RATE, Muon, is_hidden, orthogonalised

if TYPE_CHECKING:
    from pathlib import Path

BETAS = (0.5, 0.9)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (16, 16), (128, 1152)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_come_near_1_and_the_directions_stay(
    shape: tuple[int, int], scale: float
) -> None:
    matrix = scale * numbers(*shape)
    (result,) = orthogonalised([matrix])
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    along = torch.diagonal(u.mT @ result @ vh.mT)
    inner = s > 0.02 * s[0]  # what is smaller than that takes more than five iterations
    assert inner.float().mean() > 0.9
    assert along[inner].min() > 0.6
    assert along.max() < 1.3
    torch.testing.assert_close((u * along) @ vh, result, atol=2e-3, rtol=0)


@pytest.mark.parametrize("rank", [1, 3])
def test_gradients_of_low_rank_stay_small(rank: int) -> None:
    (result,) = orthogonalised([numbers(128, rank) @ numbers(rank, 512, seed=1)])
    assert result.isfinite().all()
    sizes = torch.linalg.svdvals(result)
    assert sizes.max() < 1.3
    assert sizes[rank - 1] > 0.6


def test_a_gradient_of_zero_moves_nothing() -> None:
    (result,) = orthogonalised([torch.zeros(16, 32)])
    assert torch.equal(result, torch.zeros(16, 32))


def test_matrices_of_one_side_or_another_are_as_each_alone() -> None:
    shapes = [(16, 64), (64, 16), (32, 32), (16, 16), (48, 32), (16, 64)]
    matrices = [numbers(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    together = orthogonalised(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonalised([matrix])[0])
    assert orthogonalised([]) == []


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [
        ((16, 16), True),
        ((16, 4, 2, 2), True),
        ((16, 15), False),
        ((8, 3, 9, 9), False),
        ((99,), False),
    ],
)
def test_hidden_layers_are_wide_on_both_sides(shape: tuple[int, ...], hidden: bool) -> None:
    assert is_hidden(torch.zeros(shape)) == hidden


@pytest.mark.parametrize(("shape", "scale"), [((64, 32), 2**0.5), ((32, 64), 1.0)])
def test_hidden_weights_move_by_their_momentum_made_orthogonal(
    shape: tuple[int, int], scale: float
) -> None:
    weight = nn.Parameter(numbers(*shape))
    expected, momentum = weight.detach().clone(), torch.zeros(shape)
    optimizer = Muon([weight], lr=0.01, betas=BETAS)
    for step in range(3):
        grad = numbers(*shape, seed=step + 1)
        weight.grad = grad.clone()
        optimizer.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * grad
        ahead = MOMENTUM * momentum + (1 - MOMENTUM) * grad
        expected -= 0.01 * RATE * scale * orthogonalised([ahead])[0]
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-5, atol=1e-5)


def test_the_rest_moves_as_adam_moves_it() -> None:
    mine = nn.ModuleList([nn.Linear(32, 32), nn.Linear(32, 4)])
    other = copy.deepcopy(mine)
    optimizer = Muon(mine.parameters(), lr=0.01, betas=BETAS)
    adam = torch.optim.Adam(other.parameters(), lr=0.01, betas=BETAS)
    for step in range(3):
        for number, (ours, theirs) in enumerate(
            zip(mine.parameters(), other.parameters(), strict=True)
        ):
            ours.grad = numbers(*ours.shape, seed=10 * step + number)
            theirs.grad = ours.grad.clone()
        optimizer.step()
        adam.step()
    for name in ("0.bias", "1.weight", "1.bias"):
        torch.testing.assert_close(mine.get_parameter(name), other.get_parameter(name))
    hidden = [network.get_parameter("0.weight") for network in (mine, other)]
    assert not torch.allclose(*hidden)


def test_a_convolution_is_the_matrix_of_its_rows_however_it_lies_in_memory() -> None:
    flat = nn.Parameter(numbers(32, 16 * 9))
    grads = [numbers(32, 16 * 9, seed=step + 1) for step in range(2)]
    plain = nn.Parameter(flat.detach().clone().view(32, 16, 3, 3))
    last = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    for weight in (flat, plain, last):
        optimizer = Muon([weight], lr=0.01, betas=BETAS)
        for grad in grads:
            weight.grad = torch.empty_like(weight).copy_(grad.view_as(weight))
            optimizer.step()
    for weight in (plain, last):
        torch.testing.assert_close(weight.detach().flatten(1), flat.detach(), rtol=1e-4, atol=1e-5)


def test_the_rate_may_be_a_tensor_and_weights_without_a_gradient_stay() -> None:
    moved, also, still = ([nn.Parameter(numbers(16, 16)), nn.Parameter(numbers(9))] for _ in "abc")
    rate = torch.tensor(0.01)
    ways = [Muon([*moved, *still], lr=0.5, betas=BETAS), Muon(also, lr=0.01, betas=BETAS)]
    for group in ways[0].param_groups:
        group["lr"] = rate
    for weights in (moved, also):
        weights[0].grad, weights[1].grad = numbers(16, 16, seed=1), numbers(9, seed=1)
    for way in ways:
        way.step()
    for mine, other in zip(moved, also, strict=True):
        torch.testing.assert_close(mine, other)
    assert torch.equal(still[0].detach(), numbers(16, 16))
    assert torch.equal(still[1].detach(), numbers(9))


def test_a_discriminator_stays_with_adam(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, optimizer="muon")
    made = {
        step.player.name: type(step.optimizer.optimizer).__name__ for step in trainer.players.steps
    }
    assert made == {"encoder_generator": "Muon", "discriminator": "Adam"}
    trainer = trainer_in(tmp_path / "other", optimizer="adam8bit")
    assert {type(o.optimizer).__name__ for o in trainer.optimizers} == {"Adam8bit"}


def test_a_training_by_muon_goes_on_bit_for_bit(tmp_path: Path) -> None:
    run(trainer_in(tmp_path / "whole", optimizer="muon"))
    first = trainer_in(tmp_path / "parts", optimizer="muon")
    for _ in range(2):
        first.update(first.step / STEPS)
    first.save()
    run(trainer_in(tmp_path / "parts", optimizer="muon"))
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
