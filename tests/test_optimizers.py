"""Optimizers by name: what they hold, and that a saved state goes on."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from ldf_video.errors import UsageError
from ldf_video.training.optim import (
    OPTIMIZERS,
    check_optimizer,
    make_optimizer,
    state_bytes,
)

SETTINGS: dict[str, Any] = {"learning_rate": 0.01, "beta1": 0.5, "beta2": 0.9}


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


def test_8_bit_steps_follow_those_of_32_bits() -> None:
    (_, one), (_, other) = stepped("adam", steps=10), stepped("adam8bit", steps=10)
    assert one.mean().item() == pytest.approx(-0.1, rel=0.05)
    assert not torch.equal(one, other)
    torch.testing.assert_close(other, one, rtol=0.1, atol=0)


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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_that_was_saved_goes_on_bit_for_bit(name: str) -> None:
    _, expected = stepped(name, steps=4)
    numbers = torch.Generator().manual_seed(0)
    weight, saved = nn.Parameter(torch.zeros(64, 128)), None
    for _ in range(2):
        optimizer = make_optimizer(name, [weight], **SETTINGS)
        if saved is not None:
            optimizer.load_state_dict(saved)
        for _ in range(2):
            weight.grad = 1 + torch.rand(64, 128, generator=numbers)
            optimizer.step()
        saved = optimizer.state_dict()
    assert torch.equal(weight.detach(), expected)


def test_bytes_a_parameter() -> None:
    count = 64 * 128
    assert state_bytes(stepped("adam")[0]) == 8 * count + 4  # two moments, and the step
    assert state_bytes(stepped("muon")[0]) == 4 * count
    assert 2 * count < state_bytes(stepped("adam8bit")[0]) <= 2.3 * count
    assert state_bytes(make_optimizer("adam", [nn.Parameter(torch.zeros(9))], **SETTINGS)) == 0


def test_8_bit_state_of_large_tensors_takes_at_most_2_1_bytes_a_parameter() -> None:
    count = 1024 * 1024
    optimizer, _ = stepped("adam8bit", size=(1024, 1024))
    assert 2 * count < state_bytes(optimizer) <= 2.1 * count


def test_small_tensors_keep_a_32_bit_state() -> None:
    optimizer, _ = stepped("adam8bit", size=(4095,))
    assert state_bytes(optimizer) == 8 * 4095


def test_a_missing_package_and_an_unknown_name_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--optimizer sgd: expected muon, adam or adam8bit"):
        check_optimizer("sgd")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_optimizer("adam")
    expected = "--optimizer adam8bit: bitsandbytes is not installed .* use --optimizer adam$"
    with pytest.raises(UsageError, match=expected):
        make_optimizer("adam8bit", [nn.Parameter(torch.zeros(3))], **SETTINGS)
