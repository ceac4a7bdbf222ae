"""Batch norm, stacks that compute twice, patches, and statistics over processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ldf_video.models.layers import (
    BatchNorm,
    Stack,
    apart,
    gathered,
    joined,
    mean_over_processes,
    patchify,
    recompute_statistics,
    set_checkpointing,
    unpatchify,
)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_batch_norm_is_torchs() -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    assert {n: p.shape for n, p in ours.named_parameters()} == {
        n: p.shape for n, p in theirs.named_parameters()
    }
    for step in range(3):
        x, other = (2 * numbers(4, 3, 5, 5, seed=step) + 1).requires_grad_(), None
        other = x.detach().clone().requires_grad_()
        y, expected = ours(x), theirs(other)
        assert torch.equal(y, expected)
        y.square().sum().backward()
        expected.square().sum().backward()
        assert torch.equal(x.grad, other.grad)
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_recomputed_statistics_are_those_of_the_batch_at_each_depth() -> None:
    network = nn.Sequential(BatchNorm(3), nn.Conv2d(3, 2, 1), BatchNorm(2)).eval()
    x = 3 * numbers(64, 3, 2, 2) + 5
    recompute_statistics(network, x)
    assert not network.training
    torch.testing.assert_close(network[0].running_mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(network[0].running_var, x.var((0, 2, 3)))
    second = network.train()[:2](x)
    torch.testing.assert_close(network[2].running_mean, second.mean((0, 2, 3)))
    torch.testing.assert_close(network[2].running_var, second.var((0, 2, 3)))
    assert (network[0].momentum, network[2].momentum) == (0.1, 0.1)


def test_without_batch_norm_nothing_is_computed() -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError("it was called")

    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    network.forward = fail  # type: ignore[method-assign]
    recompute_statistics(network, torch.zeros(1))


class Noticed(nn.Module):
    """Counts how often it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return (self.weight * x).tanh()


@pytest.mark.parametrize(("on", "count"), [(False, 1), (True, 2)])
def test_a_stack_computes_its_layers_twice_while_checkpointing(on: bool, count: int) -> None:
    stack = Stack(Noticed(), Noticed())
    set_checkpointing(nn.ModuleList([stack]), on=on)
    stack(numbers(3)).sum().backward()
    # The backward pass may stop the second time as soon as it has what it needs.
    assert [layer.count for layer in stack] == [count, count]
    with torch.no_grad():
        stack(numbers(3))
    assert [layer.count for layer in stack] == [count + 1, count + 1]  # nothing to save here


def test_a_stack_gives_the_same_values_and_gradients_of_gradients() -> None:
    found = []
    for on in (False, True):
        stack = Stack(Noticed(), Noticed())
        set_checkpointing(stack, on=on)
        x = numbers(5).requires_grad_()
        y = stack(x)
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        gradient.square().sum().backward()
        found.append([y, gradient, *(layer.weight.grad for layer in stack)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert found[0][2].abs() > 0


def test_patches_go_row_by_row() -> None:
    grids = torch.arange(2 * 4 * 6).view(2, 4, 6)  # of two channels
    patches = patchify(grids, (2, 3))
    assert patches.shape == (4, 12)
    assert patches[0].tolist() == [0, 1, 2, 6, 7, 8, 24, 25, 26, 30, 31, 32]
    assert patches[1].tolist() == [3, 4, 5, 9, 10, 11, 27, 28, 29, 33, 34, 35]
    assert patches[2, 0] == 12


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 5, 7), (2, 4, 5), (64, 1, 1)], ids=str)
@pytest.mark.parametrize("patch", [(1, 1), (2, 2), (4, 4), (2, 3), (5, 7)], ids=str)
def test_unpatchify_is_the_inverse_of_patchify(
    shape: tuple[int, int, int], patch: tuple[int, int]
) -> None:
    grids = numbers(2, 3, *shape)
    patches = patchify(grids, patch)
    assert torch.equal(unpatchify(patches, shape, patch), grids)
    assert patches.square().sum() == pytest.approx(grids.square().sum().item())  # zeros beside it


def test_of_one_process_everything_is_the_identity() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    assert joined() == 1
    assert gathered(x) is x
    assert mean_over_processes(x) is x


def test_apart_a_process_is_alone_and_joined_again_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    assert joined() == 3
    with apart():
        with apart():
            assert joined() == 1
        assert joined() == 1
        assert mean_over_processes(x := torch.ones(2)) is x  # waits for nobody
    assert joined() == 3
    with pytest.raises(RuntimeError, match="on the way"), apart():
        raise RuntimeError("on the way")
    assert joined() == 3
