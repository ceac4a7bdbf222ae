"""The paper's frame model: ALI's table layer by layer, its game, calibrated averages."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from tiny_models import ALI, ali_game, ali_model, tick
from torch import nn

from ldf_video.models.ali import (
    AliConfig,
    AliDiscriminator,
    AliEncoder,
    AliGame,
    AliGameConfig,
    AliGenerator,
    AliModel,
)
from ldf_video.models.layers import BatchNorm


def layers_of(network: nn.Module) -> list[tuple[int, int, int, int]]:
    """(inputs, outputs, kernel, stride) of each convolution and linear layer, in order."""
    found = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            assert part.kernel_size[0] == part.kernel_size[1]
            found.append((part.in_channels, part.out_channels, part.kernel_size[0], part.stride[0]))
        elif isinstance(part, nn.Linear):
            found.append((part.in_features, part.out_features, 1, 1))
    return found


# ALI's table 5 (CIFAR-10), from the input on; E's last layer gives a mean and a spread of each of
# the 64 latents, and a maxout of two pieces has two convolutions in one.
ENCODER = [
    (3, 32, 5, 1),
    (32, 64, 4, 2),
    (64, 128, 4, 1),
    (128, 256, 4, 2),
    (256, 512, 4, 1),
    (512, 512, 1, 1),
    (512, 128, 1, 1),
]
GENERATOR = [
    (64, 256, 4, 1),
    (256, 128, 4, 2),
    (128, 64, 4, 1),
    (64, 32, 4, 2),
    (32, 32, 5, 1),
    (32, 32, 1, 1),
    (32, 3, 1, 1),
]
OF_FRAME = [
    (3, 2 * 32, 5, 1),
    (32, 2 * 64, 4, 2),
    (64, 2 * 128, 4, 1),
    (128, 2 * 256, 4, 2),
    (256, 2 * 512, 4, 1),
]
OF_LATENT = [(64, 512, 1, 1), (512, 512, 1, 1)]
JOINT = [(1024, 1024, 1, 1), (1024, 1024, 1, 1), (1024, 1, 1, 1)]


def test_the_layers_are_those_of_alis_table() -> None:
    config = AliConfig()
    E, G, D = AliEncoder(config), AliGenerator(config), AliDiscriminator(config)
    assert layers_of(E) == ENCODER
    assert layers_of(G) == GENERATOR
    assert layers_of(D.of_frame) == OF_FRAME
    assert layers_of(D.of_latent) == OF_LATENT
    assert layers_of(D.joint) == JOINT
    norms = [sum(isinstance(part, BatchNorm) for part in net.modules()) for net in (E, G, D)]
    assert norms == [6, 6, 0]


def test_small_frames_have_one_halving_less() -> None:
    config = AliConfig(16, 16)
    E, G, D = AliEncoder(config), AliGenerator(config), AliDiscriminator(config)
    last, first = (128, 512, 2, 1), (64, 128, 2, 1)
    assert layers_of(E) == [*ENCODER[:3], last, *ENCODER[5:]]
    assert layers_of(G) == [first, *GENERATOR[2:]]
    assert layers_of(D.of_frame) == [*OF_FRAME[:3], (128, 2 * 512, 2, 1)]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (64, 64), (16, 16)])
def test_shapes(height: int, width: int) -> None:
    config = replace(ALI, height=height, width=width)
    game = AliGame(AliModel(config), AliGameConfig())
    model, D = game.model, game.discriminator
    x = torch.randn(2, 3, height, width)

    z = model.encoder(x)
    hidden = model.encoder.trunk(x)

    assert z.shape == (2, *config.latent_shape) == (2, 8, 1, 1)
    assert hidden.shape == (2, 16 * config.base_width, 1, 1)
    assert model.generator(z).shape == x.shape
    assert game.around(hidden).shape == x.shape
    assert D(x, z).shape == (2,)


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16), (36, 32), (32, 50), (0, 32)])
def test_sizes_that_the_networks_cannot_have_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{width}x{height}: .* 16x16 or multiples of 8"):
        AliConfig(height=height, width=width)


def test_e_gives_the_mean_and_a_spread_that_is_positive_and_bounded() -> None:
    model = ali_model()
    hidden = 0.1 * model.encoder.trunk(torch.randn(4, 3, 32, 32))
    mean, std = model.encoder.gaussian(hidden)
    assert mean.shape == std.shape == (4, 8, 1, 1)
    assert torch.equal(mean, model.encoder.eval().gaussian(hidden)[0])
    raw = model.encoder.head(hidden)
    torch.testing.assert_close(mean, raw[:, :8])
    torch.testing.assert_close(std, raw[:, 8:].exp())
    with torch.no_grad():
        model.encoder.head.bias.add_(1e6)
    assert model.encoder.gaussian(hidden)[1].max() == torch.tensor(2.0).exp()
    with torch.no_grad():
        model.encoder.head.bias.sub_(2e6)
    assert model.encoder.gaussian(hidden)[1].min() == torch.tensor(-8.0).exp()


def test_weights_start_as_said() -> None:
    torch.manual_seed(0)
    E = AliEncoder(AliConfig())
    weights = E.trunk[4][0].weight  # before batch norm
    assert weights.std().item() == pytest.approx(0.01, rel=0.02)
    D = AliDiscriminator(AliConfig())
    weights = D.of_latent[2][0].weight  # He's, for leaky ReLU of slope 0.1 after 512 inputs
    assert weights.std().item() == pytest.approx((2 / (1 + 0.1**2) / 512) ** 0.5, rel=0.02)
    assert all(p.abs().max() == 0 for name, p in D.named_parameters() if name.endswith("bias"))


def frames(count: int = 8, seed: int = 0) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 32, 32, generator=numbers) * 2 - 1


def fresh_game() -> AliGame:
    torch.manual_seed(0)
    return AliGame(AliModel(ALI), AliGameConfig())


def test_binary_cross_entropy_starts_at_2_ln_2_and_the_penalty_at_0() -> None:
    game = fresh_game()
    loss, logs = game.discriminator_loss(frames(), tick(game))
    assert logs["discriminator"].item() == pytest.approx(2 * math.log(2))
    assert logs["roth"].item() == 0
    assert loss.item() == pytest.approx(2 * math.log(2))
    _, logs = game.encoder_generator_loss(frames(), tick(game))
    assert logs["encoder_generator"].item() == pytest.approx(2 * math.log(2))


def test_the_shortcut_reaches_es_trunk_and_gs_trunk_and_goes_around_the_latents() -> None:
    game = ali_game()
    hidden = game.model.encoder.trunk(frames())
    game.around(hidden).square().mean().backward()
    for name, gradient in [(n, p.grad) for n, p in game.model.named_parameters()]:
        around = name.startswith(("encoder.head", "generator.stem"))
        assert (gradient is None) is around, name
    assert not any("shortcut" in name for name in game.model.state_dict())


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
    hidden = game.model.encoder.trunk(frames(64))
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
    _, std = game._infer(game.model.encoder.trunk(frames(4)), tick(game).noise)
    std.sum().backward()
    # d/dl sqrt(a^2 + exp(2 l)) = exp(2 l) / std, of 4 frames
    expected = 4 * 0.01 / 0.26**0.5
    found = game.model.encoder.head.bias.grad[8:]
    torch.testing.assert_close(found, torch.full((8,), expected))


def test_without_the_game_d_takes_no_part_and_the_loss_is_an_autoencoders() -> None:
    game = ali_game(game=0.0, shortcut=0.0, deterministic=True)
    loss, logs = game.discriminator_loss(frames(), tick(game))
    assert (loss.requires_grad, logs) == (False, {})
    loss, logs = game.encoder_generator_loss(frames(), tick(game))
    assert set(logs) == {"pixels", "moments", "latent_std"}
    expected = 20 * logs["pixels"] + 0.5 * logs["moments"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_deterministic_latent_is_the_mean_and_draws_no_noise() -> None:
    game = ali_game(deterministic=True)
    hidden = game.model.encoder.trunk(frames(4))
    drawn, std = game._infer(hidden, tick(game, 1).noise)
    assert torch.equal(drawn, game.model.encoder.gaussian(hidden)[0])
    assert not std.any()


def test_new_settings_are_what_old_configs_without_them_meant() -> None:
    config = AliGameConfig()
    assert (config.game, config.deterministic) == (1.0, False)


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
