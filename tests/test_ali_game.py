"""The paper's game: who moves whom, what it starts from, and averaged weights with batch norm."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import pytest
import torch
from tiny_models import ALI, ali_game, tick

from ldf_video.models.ali import AliGame, AliGameConfig, AliModel

if TYPE_CHECKING:
    from torch import nn


def frames(count: int = 8, seed: int = 0) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 32, 32, generator=numbers) * 2 - 1


def fresh_game() -> AliGame:
    torch.manual_seed(0)
    return AliGame(AliModel(ALI), AliGameConfig())


def gradients(network: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: p.grad for name, p in network.named_parameters()}


def test_binary_cross_entropy_starts_at_2_ln_2_and_the_penalty_at_0() -> None:
    game = fresh_game()
    loss, logs = game.discriminator_loss(frames(), tick(game))
    assert logs["discriminator"].item() == pytest.approx(2 * math.log(2))
    assert logs["roth"].item() == 0
    assert loss.item() == pytest.approx(2 * math.log(2))
    _, logs = game.encoder_generator_loss(frames(), tick(game))
    assert logs["encoder_generator"].item() == pytest.approx(2 * math.log(2))


def test_ds_gradient_reaches_d_alone() -> None:
    game = ali_game()
    loss, logs = game.discriminator_loss(frames(), tick(game, step=0))
    loss.backward()
    assert logs["roth"] > 0
    assert all(g is not None and g.abs().max() > 0 for g in gradients(game.discriminator).values())
    for network in (game.model, game.shortcut):
        assert all(gradient is None for gradient in gradients(network).values())


def test_the_other_sides_gradient_reaches_e_g_and_the_shortcut() -> None:
    game = ali_game()
    game.discriminator.requires_grad_(False)
    loss, _ = game.encoder_generator_loss(frames(), tick(game))
    loss.backward()
    assert all(gradient is None for gradient in gradients(game.discriminator).values())
    for network in (game.model, game.shortcut):
        for name, gradient in gradients(network).items():
            assert gradient is not None, name
            assert gradient.abs().max() > 0, name


def test_the_shortcut_reaches_es_trunk_and_gs_trunk_and_goes_around_the_latents() -> None:
    game = ali_game()
    hidden = game.model.encoder.hidden(frames())
    game.shortcut(hidden, game.model.generator).square().mean().backward()
    for name, gradient in gradients(game.model).items():
        around = name.startswith(("encoder.head", "generator.stem"))
        assert (gradient is None) is around, name


def test_the_players_own_all_weights_between_them_and_share_none() -> None:
    game = ali_game()
    owned = [id(p) for player in game.players for n in player.networks for p in n.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in game.parameters()}
    assert not any("shortcut" in name for name in game.model.state_dict())  # nothing to ship


def test_pixel_terms_by_hand() -> None:
    game = ali_game()

    class Half(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.full((len(z), 3, 32, 32), 0.5)

        def trunk(self, h: torch.Tensor) -> torch.Tensor:
            return self(h)

    game.model.generator = Half()
    _, logs = game.encoder_generator_loss(torch.zeros(8, 3, 32, 32), tick(game))
    assert logs["pixels"].item() == pytest.approx(0.5 + 0.25)
    assert logs["shortcut"].item() == pytest.approx(0.5 + 0.25)


def test_the_loss_is_the_weighted_sum_of_what_is_logged() -> None:
    game = ali_game(reconstruction=3.0, shortcut=5.0, moments=7.0)
    loss, logs = game.encoder_generator_loss(frames(), tick(game))
    expected = (
        logs["encoder_generator"] + 3 * logs["pixels"] + 5 * logs["shortcut"] + 7 * logs["moments"]
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_latents_in_the_game_are_gaussian_with_at_least_the_least_spread() -> None:
    game = ali_game(least_std=0.5)
    with torch.no_grad():
        game.model.encoder.head.bias.fill_(-5.0)  # means and logs of the spread
        game.model.encoder.head.weight.zero_()
    hidden = game.model.encoder.hidden(frames(64))
    drawn, std = game._infer(hidden, tick(game, 3).noise)
    least = (0.5**2 + math.exp(-10)) ** 0.5
    torch.testing.assert_close(std, torch.full_like(std, least))
    expected = -5 + least * tick(game, 3).noise.normal(64, 8, 1, 1)
    torch.testing.assert_close(drawn, expected)


def test_a_latent_thinner_than_the_least_spread_can_widen_again() -> None:
    game = ali_game(least_std=0.5)
    with torch.no_grad():
        game.model.encoder.head.weight.zero_()
        game.model.encoder.head.bias.fill_(math.log(0.1))
    _, std = game._infer(game.model.encoder.hidden(frames(4)), tick(game).noise)
    std.sum().backward()
    # d/dl sqrt(a^2 + exp(2 l)) = exp(2 l) / std, of 4 frames
    expected = 4 * 0.01 / 0.26**0.5
    found = game.model.encoder.head.bias.grad[8:]
    torch.testing.assert_close(found, torch.full((8,), expected))


def test_the_same_noise_gives_the_same_losses() -> None:
    losses = [
        [
            loss(frames(), tick(g, seed))[0].item()
            for loss in (g.discriminator_loss, g.encoder_generator_loss)
        ]
        for seed in (5, 5, 6)
        for g in [ali_game()]
    ]
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]
    assert losses[0][1] != losses[2][1]


def test_pressure_answers_to_how_d_fared() -> None:
    game = ali_game()
    game.after_update({"discriminator": torch.tensor(0.1)})
    pressed = game.restraint.roth.pressure.item()
    assert pressed > 1
    game.after_update({"discriminator": torch.tensor(1.3)})
    assert game.restraint.roth.pressure.item() < pressed


def test_calibrated_averages_give_what_batch_statistics_give() -> None:
    game = ali_game()
    average = copy.deepcopy(game.model).eval().requires_grad_(False)
    x = frames(32)
    stale = average.encoder(x)

    game.calibrate(average, x)

    assert not average.training
    z = average.encoder(x)
    assert not torch.allclose(z, stale, rtol=0.1)
    with_batch = copy.deepcopy(average).train()
    # torch keeps the unbiased variance and normalises by the biased one: 1/32 or less apart.
    torch.testing.assert_close(z, with_batch.encoder(x), rtol=0.1, atol=0.02)
    y, y_with_batch = average.generator(z), with_batch.generator(z)
    assert (y - y_with_batch).abs().max() < 0.1 * y.std()
    game.calibrate(average, x)
    assert torch.equal(average.encoder(x), z)  # it does not drift
    assert all(
        torch.equal(p, q)
        for p, q in zip(average.parameters(), game.model.parameters(), strict=True)
    )


def test_calibration_leaves_momenta_as_they_were() -> None:
    game = ali_game()
    game.calibrate(game.model, frames())
    norms = [part for part in game.model.modules() if hasattr(part, "momentum")]
    assert len(norms) == 12
    assert {norm.momentum for norm in norms} == {0.1}


def test_a_step_of_training_updates_running_statistics_of_e_and_g_only_by_their_batches() -> None:
    game = ali_game()
    before = game.model.encoder.trunk[0][1].running_mean.clone()
    game.encoder_generator_loss(frames(), tick(game))
    assert not torch.equal(game.model.encoder.trunk[0][1].running_mean, before)
