"""The paper's top model: what masks hide, who moves whom, and sequences of one length."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import MLP, mlp, mlp_game, tick

from ldf_video.models.gan import GanConfig
from ldf_video.models.mlp import MlpConfig, MlpGame, MlpTop
from ldf_video.models.rollout import Rollout

SHAPE, WINDOW = MLP.latent_shape, MLP.window


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, WINDOW, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def sample(top: MlpTop, seeds: list[torch.Generator]) -> torch.Tensor:
    return torch.cat(list(top.sample(Rollout(WINDOW), seeds)), dim=1)


def test_d_sees_how_long_a_clip_is() -> None:
    D = mlp_game().discriminator
    zeros = torch.zeros(1, WINDOW, 64)
    assert D(zeros, torch.ones(1, WINDOW)) != D(zeros, torch.tensor([[1.0, 1, 0, 0, 0]]))


def test_a_constant_discriminator_loses_2_ln_2() -> None:
    game = mlp_game()
    with torch.no_grad():
        game.discriminator.layers[-1].weight.zero_()
        game.discriminator.layers[-1].bias.zero_()
    batch = latents(4), torch.ones(4, WINDOW, dtype=torch.bool)
    loss, logs = game.discriminator_loss(batch, tick(game, step=0))
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert logs["roth"].item() == 0
    assert game.generator_loss(batch, tick(game))[0].item() == pytest.approx(math.log(2))


def test_shapes_and_layers() -> None:
    top = MlpTop(MlpConfig())
    sizes = [part.weight.shape for part in top.generator if hasattr(part, "weight")]
    assert sizes == [(512, 256), (512, 512), (512, 512), (5 * 64, 512)]
    assert top(torch.zeros(2, 256)).shape == (2, 5, 64)
    assert MlpConfig().sequence_size == 320
    assert MlpGame(top, GanConfig()).discriminator.layers[0].in_features == 320 + 5


def test_a_sequence_is_a_function_of_its_own_generator() -> None:
    top = mlp()
    assert top.fixed_frames == WINDOW
    together = sample(top, generators(3))
    assert together.shape == (3, WINDOW, *SHAPE)
    assert together.dtype == torch.float32
    for i in range(3):
        torch.testing.assert_close(sample(top, generators(1, first=i))[0], together[i])
    assert not torch.allclose(together[0], together[1], atol=1e-2)
    assert torch.equal(sample(top, generators(3)), together)


def test_other_lengths_and_contexts_are_refused() -> None:
    top = mlp()
    with pytest.raises(ValueError, match="7 frames: expected 5 and none that is known"):
        next(top.sample(Rollout(7), generators(1)))
    with pytest.raises(ValueError, match="5 frames, of which some are known: expected 5"):
        next(top.sample(Rollout(5, past=latents(1)), generators(1)))
    with pytest.raises(ValueError, match="window 0: expected 1 frame or more"):
        MlpConfig(window=0)


def test_g_makes_standardised_latents() -> None:
    top = mlp()
    made = sample(top, generators(2))
    noise = torch.stack([torch.randn(MLP.noise_size, generator=g) for g in generators(2)])
    with torch.no_grad():
        torch.testing.assert_close(top.standardise(made), top(noise), rtol=1e-4, atol=1e-5)
    top.latent_mean.add_(10)
    torch.testing.assert_close(sample(top, generators(2)), made + 10)


def test_d_sees_standardised_latents() -> None:
    game, mask = mlp_game(), torch.ones(2, WINDOW, dtype=torch.bool)
    values = latents(2)
    before, _ = game.discriminator_loss((values, mask), tick(game, step=1))
    mean, std = game.model.latent_mean.clone(), game.model.latent_std.clone()
    game.model.set_statistics(3 * mean + 1, 2 * std)
    moved = game.model.restore(((values - mean) / std).flatten(-3))
    torch.testing.assert_close(
        game.discriminator_loss((moved, mask), tick(game, step=1))[0], before
    )
