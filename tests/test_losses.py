"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ldf_video.models.losses import (
    binary_loss,
    moment_penalty,
    relativistic_loss,
    roth_penalty,
)


def test_relativistic_loss_is_ln_2_where_nothing_wins() -> None:
    logits = torch.tensor([-3.0, 0.0, 5.0])
    assert relativistic_loss(logits, logits).item() == pytest.approx(math.log(2))


def test_relativistic_loss_of_two_pairs_by_hand() -> None:
    winner, loser = torch.tensor([2.0, -1.0]), torch.tensor([0.0, 0.0])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert relativistic_loss(winner, loser).item() == pytest.approx(expected)


def test_relativistic_loss_stays_finite_for_far_logits() -> None:
    far = torch.tensor([1e4])
    assert relativistic_loss(far, -far).item() == 0
    assert relativistic_loss(-far, far).item() == pytest.approx(2e4)


def test_binary_loss_is_2_ln_2_where_d_cannot_tell() -> None:
    zeros = torch.zeros(3)
    assert binary_loss(zeros, zeros).item() == pytest.approx(2 * math.log(2))


def test_binary_loss_of_two_pairs_by_hand() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    confidence = [1 / (1 + math.exp(-logit)) for logit in (2.0, -1.0, 0.5, -3.0)]
    expected = -(math.log(confidence[0]) + math.log(confidence[1])) / 2
    expected -= (math.log(1 - confidence[2]) + math.log(1 - confidence[3])) / 2
    assert binary_loss(real, fake).item() == pytest.approx(expected)


def test_binary_loss_stays_finite_for_far_logits() -> None:
    far = torch.tensor([1e4])
    assert binary_loss(far, -far).item() == 0
    assert binary_loss(-far, far).item() == pytest.approx(2e4)


class Linear:
    """D(x, z) = w . x + v . z + b, whose gradient is (w, v) everywhere."""

    def __init__(self) -> None:
        self.w = torch.tensor([1.0, -2.0], requires_grad=True)
        self.v = torch.tensor([3.0], requires_grad=True)

    def __call__(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x @ self.w + z @ self.v + 0.5


@pytest.mark.parametrize("real", [True, False])
def test_roth_penalty_of_a_linear_discriminator_by_hand(real: bool) -> None:
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0]], requires_grad=True)
    z = torch.tensor([[0.5], [1.0]], requires_grad=True)
    logits = [1 - 2 + 1.5 + 0.5, -2 + 3 + 0.5]
    confidence = [1 / (1 + math.exp(-logit)) for logit in logits]
    errors = [1 - s if real else s for s in confidence]
    squared_norm = 1 + 4 + 9  # of both inputs together
    expected = sum(error**2 * squared_norm for error in errors) / 2

    logits = Linear()(x, z)
    s = torch.sigmoid(logits)
    penalty = roth_penalty(logits, [x, z], error=1 - s if real else s)

    assert penalty.item() == pytest.approx(expected, rel=1e-6)


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


@pytest.mark.parametrize(("share", "expected"), [(0.9, 0.2), (0.04, 0.0)])
def test_moments_of_cells_that_share_a_frame(share: float, expected: float) -> None:
    """Four frames of 64 cells; of their variance a share is between frames."""
    numbers = torch.Generator().manual_seed(0)
    between = share**0.5 * torch.randn(300, 4, 1, 4, generator=numbers)
    cells = between + (1 - share) ** 0.5 * torch.randn(300, 4, 64, 4, generator=numbers)
    found = torch.stack([moment_penalty(batch.flatten(0, 1)) for batch in cells]).mean()
    assert found.item() == pytest.approx(expected, abs=0.06 if expected else 0.005)


def test_under_autocast_moments_are_in_float32() -> None:
    z = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (z.float().T @ z.float()).dtype == torch.bfloat16  # autocast is at work
        penalty = moment_penalty(z)
    assert torch.equal(penalty, moment_penalty(z.float()))


def test_moment_penalty_has_no_bias_where_the_plain_square_has() -> None:
    batches = _normal_batches(2000, 8, 4)

    unbiased = torch.stack([moment_penalty(z) for z in batches])

    spread = unbiased.std().item() / math.sqrt(len(batches))
    assert abs(unbiased.mean().item()) < 4 * spread
    centred = batches - batches.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / 7
    plain = batches.mean(1).square().sum(1) + (covariance - torch.eye(4)).square().sum((1, 2))
    # 4 means of variance 1/8; 4 variances of variance 2/7 and 12 covariances of 1/7; over d = 4.
    assert plain.mean().item() / 4 == pytest.approx((4 / 8 + 8 / 7 + 12 / 7) / 4, rel=0.05)
    assert plain.mean().item() / 4 > 20 * spread


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda z: z + 1, 1.0),  # |mean|^2 / d
        (lambda z: 2 * z, 9.0),  # (4 - 1)^2
        (lambda z: 0 * z, 1.0),  # collapse: (0 - 1)^2
        (lambda z: z[..., :1].expand_as(z), 3.0),  # all alike: 4 * 3 products of 1, over d = 4
    ],
    ids=["shifted", "scaled", "collapsed", "correlated"],
)
def test_moment_penalty_of_other_moments(change, expected) -> None:
    z = change(_normal_batches(1, 40_000, 4)[0])
    assert moment_penalty(z).item() == pytest.approx(expected, rel=0.1)


def test_moment_penalty_flattens_latents() -> None:
    z = _normal_batches(1, 8, 12)[0]
    assert moment_penalty(z.view(8, 3, 2, 2)) == moment_penalty(z)


def test_moment_penalty_needs_two_rows_a_half() -> None:
    assert moment_penalty(torch.randn(4, 2)).isfinite()
    with pytest.raises(ValueError, match=r"got a batch of 3, expected at least 4"):
        moment_penalty(torch.randn(3, 2))
