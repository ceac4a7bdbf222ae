"""Optimizers by name, Muon, and averaged weights against the recursion written out."""

from __future__ import annotations

import copy
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_trainings import trainer_in
from torch import nn

from ldf_video.errors import UsageError
from ldf_video.training.optim import (
    MOMENTUM,
    RATE,
    Average,
    Muon,
    check_optimizer,
    make_optimizer,
    orthogonalised,
    state_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path


SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.5, 0.9)}


def stepped(name: str, *, size: tuple[int, ...] = (64, 128), steps: int = 1) -> Any:
    """An optimizer that has moved weights of 0 downhill, where their gradient is 1 to 2."""
    weight = nn.Parameter(torch.zeros(size))
    optimizer = make_optimizer(name, [weight], **SETTINGS)
    numbers = torch.Generator().manual_seed(0)
    for _ in range(steps):
        weight.grad = 1 + torch.rand(size, generator=numbers)
        optimizer.step()
    return optimizer, weight.detach()


@pytest.mark.parametrize("name", ["adam", "adam8bit"])
def test_the_first_step_is_the_rate_whatever_the_gradient(name: str) -> None:
    _, weight = stepped(name)
    torch.testing.assert_close(weight, torch.full_like(weight, -0.01), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("share", "least", "most"), [(1e-2, 0.9, 1.1), (1e-3, 0.2, 0.4), (1e-4, 0.05, 0.1)]
)
def test_8_bit_states_on_a_cpu_hold_small_gradients_back(
    share: float, least: float, most: float
) -> None:
    """What docs/training.md says of weights beside one with a larger gradient, 20 updates."""
    grad = torch.full((8192,), share)
    grad[::256] = 1.0
    moved = {}
    for name in ("adam", "adam8bit"):
        weight = nn.Parameter(torch.zeros(8192))
        optimizer = make_optimizer(name, [weight], **SETTINGS)
        for _ in range(20):
            weight.grad = grad.clone()
            optimizer.step()
        assert weight[0].item() == pytest.approx(-0.2, rel=0.01)
        moved[name] = weight[1:256].mean().item()
    assert least < moved["adam8bit"] / moved["adam"] < most


@pytest.mark.parametrize(
    ("name", "size", "least", "most"),  # bytes a parameter
    [
        ("adam", (64, 128), 8, 8.001),  # two moments, and the step
        ("muon", (64, 128), 4, 4),
        ("adam8bit", (64, 128), 2, 2.3),
        ("adam8bit", (1024, 1024), 2, 2.1),
        ("adam8bit", (4095,), 8, 8),  # small tensors keep a 32-bit state
    ],
)
def test_bytes_a_parameter(name: str, size: tuple[int, ...], least: float, most: float) -> None:
    optimizer, weight = stepped(name, size=size)
    assert least <= state_bytes(optimizer) / weight.numel() <= most


def test_a_missing_package_and_an_unknown_name_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--optimizer sgd: expected muon, adam or adam8bit"):
        check_optimizer("sgd")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_optimizer("adam")
    expected = "--optimizer adam8bit: bitsandbytes is not installed .* use --optimizer adam$"
    with pytest.raises(UsageError, match=expected):
        make_optimizer("adam8bit", [nn.Parameter(torch.zeros(3))], **SETTINGS)


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


def test_matrices_of_one_side_or_another_are_as_each_alone() -> None:
    shapes = [(16, 64), (64, 16), (32, 32), (16, 16), (48, 32), (16, 64)]
    matrices = [numbers(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    matrices.append(torch.zeros(16, 32))  # moves nothing
    together = orthogonalised(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonalised([matrix])[0])
    assert not together[-1].any()


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
            number.count.fill_(step)
        assert average.module.weight.item() == pytest.approx(expected)
        average.update(number, step=step)
        expected = decay * expected + (1 - decay) * value
        assert average.module.count.item() == step  # buffers are copied
    assert average.module.weight.item() == pytest.approx(expected)
    assert not average.module.weight.requires_grad
    assert not average.module.training
