"""The default frame model: shapes, starts, the two players' losses, and who moves whom."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from tiny_models import FRAME, ali_model, frame_game, frame_model, tick
from torch.nn.functional import softplus

from ldf_video.models import build
from ldf_video.models.grid import GridConfig, GridDiscriminator, GridGame, GridModel
from ldf_video.models.layers import Down, NormedBlock, PlainBlock, Up, fourier_features


@pytest.mark.parametrize(
    ("height", "width", "stride"), [(32, 32, 4), (12, 20, 4), (32, 64, 8), (8, 16, 8), (48, 32, 16)]
)
def test_shapes(height: int, width: int, stride: int) -> None:
    config = GridConfig(height, width, stride, 3, base_width=8, critic_width=8, depth=1)
    model, D = GridModel(config), GridDiscriminator(config)
    x = torch.zeros(2, 3, height, width)

    z = model.encoder(x)

    assert config.latent_shape == (3, height // stride, width // stride)
    assert z.shape == (2, *config.latent_shape)
    assert model.generator(z).shape == x.shape
    assert D(x, z).shape == (2,)
    shapes = [(8, 2), (16, 4), (32, 8), (32, 16)]
    assert [tuple(f.shape[1:]) for f in D.features(x)] == [
        (channels, height // cell, width // cell) for channels, cell in shapes if cell <= stride
    ]


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [
        (32, 32, (4, 8, 8)),
        (64, 64, (4, 16, 16)),
        (96, 96, (4, 24, 24)),
        (97, 64, (8, 13, 8)),
        (128, 128, (8, 16, 16)),
        (40, 64, (4, 10, 16)),
        (38, 64, (4, 10, 16)),
    ],
)
def test_cells_are_small_whatever_the_frames_size(
    height: int, width: int, shape: tuple[int, int, int]
) -> None:
    model, _ = build.frame_settings("default", height=height, width=width)
    assert GridConfig(**model).latent_shape == shape


@pytest.mark.parametrize(("height", "width"), [(0, 8), (-8, 8), (7, 32), (32, 7)])
def test_sizes_without_a_whole_cell_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"frame size {width}x{height}: expected sides of 8 or"):
        GridConfig(height=height, width=width)
    with pytest.raises(ValueError, match="stride 5: expected one of 4, 8, 16"):
        GridConfig(stride=5)


@pytest.mark.parametrize(("height", "width"), [(36, 64), (33, 9), (8, 15)])
def test_other_sizes_are_padded_with_their_edge_and_cut_again(height: int, width: int) -> None:
    size = -(-height // 8) * 8, -(-width // 8) * 8
    odd, even = (
        GridConfig(*sides, stride=8, base_width=8, critic_width=8, depth=1)
        for sides in ((height, width), size)
    )
    assert odd.latent_shape == even.latent_shape == (4, size[0] // 8, size[1] // 8)
    model, whole, D = GridModel(odd), GridModel(even), GridDiscriminator(even)
    whole.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, height, width)
    rows = torch.arange(size[0]).clamp_max(height - 1)
    columns = torch.arange(size[1]).clamp_max(width - 1)
    padded = x[:, :, rows][:, :, :, columns]

    z = model.encoder(x)

    assert torch.equal(z, whole.encoder(padded))
    y = model.generator(z)
    assert torch.equal(y, whole.generator(z)[:, :, :height, :width])
    assert y.shape == x.shape
    assert torch.equal(D(x, z), D(padded, z))


@pytest.mark.parametrize("block", [NormedBlock(16), PlainBlock(16)], ids=["normed", "plain"])
def test_residual_blocks_start_near_the_identity(block: torch.nn.Module) -> None:
    x = torch.randn(2, 16, 4, 4)
    residue = block(x) - x
    # Nothing of x passes but the last convolution's bias: the residue is the same everywhere.
    assert torch.allclose(residue, block.conv2.bias.view(1, -1, 1, 1).expand_as(x), atol=1e-6)


def test_down_and_up_move_cells_between_places_and_channels() -> None:
    x = torch.randn(2, 3, 8, 4)
    assert Down(3, 5)(x).shape == (2, 5, 4, 2)
    assert Up(3, 5)(x).shape == (2, 5, 16, 8)
    down = Down(1, 4)
    with torch.no_grad():  # the convolution becomes the identity: what is left is the rearrangement
        down.conv.weight.zero_()
        down.conv.bias.zero_()
        down.conv.weight[range(4), range(4), 1, 1] = 1
    picture = torch.arange(4.0).view(1, 1, 2, 2)
    assert down(picture).flatten().tolist() == [0, 1, 2, 3]


def test_the_linear_map_is_nothing_at_first_and_learns() -> None:
    torch.manual_seed(0)
    model = GridModel(FRAME)
    without = GridModel(replace(FRAME, linear=False))
    weights = model.state_dict()
    linear = {name: weights.pop(name) for name in list(weights) if ".linear." in name}
    without.load_state_dict(weights)  # and nothing else is in it
    assert set(linear) == {"encoder.linear.weight", "generator.linear.weight"}
    x = torch.randn(2, 3, 32, 32)
    z = model.encoder(x)
    assert torch.equal(z, without.encoder(x))
    assert torch.equal(model.generator(z), without.generator(z))
    (model.generator(z) - x).square().mean().backward()
    assert model.generator.linear.weight.grad.abs().max() > 0
    assert model.encoder.linear.weight.grad.abs().max() > 0


def test_the_linear_map_is_linear_and_reaches_half_a_cell_around() -> None:
    model, side = frame_model(), FRAME.stride
    black = torch.zeros(1, 3, 32, 32)
    for row, cells in ((side, {0, 1}), (side + side // 2 - 1, {0, 1}), (side + side // 2, {1, 2})):
        x = black.clone()
        x[:, :, row, 0] = 1
        z = model.encoder.linear(x)
        assert set(z.abs().sum((0, 1, 3)).nonzero().flatten().tolist()) == cells
        torch.testing.assert_close(model.encoder.linear(3 * x), 3 * z)
    for cell in range(4):
        z = torch.zeros(1, *FRAME.latent_shape)
        z[:, :, cell, 0] = 1
        y = model.generator.linear(z)
        assert y.shape == black.shape
        rows = y.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
        first, end = side * cell - side // 2, side * (cell + 1) + side // 2
        assert rows == list(range(max(first, 0), min(end, 32)))
        torch.testing.assert_close(model.generator.linear(3 * z), 3 * y)


@pytest.mark.parametrize("make", [frame_model, lambda: ali_model().eval()], ids=["grid", "ali"])
def test_a_frame_is_encoded_and_decoded_alone(make: Any) -> None:
    model = make()
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        z = model.encoder(x)
        close(model.encoder(torch.cat([x[2:3], -x]))[:1], z[2:3])
        decoded = model.generator(z)
        close(model.generator(z[4:]), decoded[4:])
        assert torch.equal(model.encoder(x), z)  # of a Gaussian the mean: there is no chance in it
    assert (z[0] - z[1]).abs().max() > 1e-3  # and not simply the same for all


def test_the_default_model_ships_in_under_10_megabytes() -> None:
    numbers = sum(p.numel() for p in GridModel(GridConfig()).parameters())
    assert 2 * numbers < 10e6


def test_fourier_features_by_hand() -> None:
    level = torch.tensor([0.0, 0.5, 1.0])
    features = fourier_features(level, 2)
    expected = [[0, 0, 1, 1], [1, 0, 0, -1], [0, 0, -1, 1]]
    torch.testing.assert_close(features, torch.tensor(expected).float(), atol=1e-6, rtol=0)


def test_generated_latents_are_decoded_by_way_of_a_frame() -> None:
    model, seen = frame_model(), []
    z = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    encode = model.encoder.forward

    def noticed(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return encode(x)

    model.encoder.forward = noticed
    with torch.no_grad():
        by_way = model.decode(3 * z)
        direct = model.generator(3 * z)
        assert len(seen) == 1
        assert torch.equal(seen[0], direct.clamp(-1, 1))
        assert direct.abs().max() > 1  # else the clamp would prove nothing
        assert torch.equal(by_way, model.generator(encode(seen[-1])))
    assert not torch.allclose(by_way, direct)


@pytest.mark.parametrize(
    "make", [ali_model, lambda: frame_model(config=replace(FRAME, refines=False))]
)
def test_the_papers_model_and_one_that_does_not_refine_decode_by_g_alone(make: Any) -> None:
    model = make().eval()
    z = torch.randn(2, *model.config.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.decode(z), model.generator(z))


def batch(seed: int = 0, count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, FRAME.height, FRAME.width, generator=generator) * 2 - 1


def discriminator_loss(game: GridGame, *, step: int = 1, progress: float = 0.0, seed: int = 0):
    now = tick(game, seed, step=step, progress=progress)
    game.encoder_generator_loss(batch(), now)  # leaves the pairs
    return game.discriminator_loss(batch(), now)


def test_a_constant_discriminator_loses_ln_2() -> None:
    game = frame_game()
    with torch.no_grad():
        game.discriminator.head[2].weight.zero_()
    loss, logs = discriminator_loss(game, step=1)
    assert loss.item() == logs["discriminator"].item() == pytest.approx(math.log(2))
    _, logs = game.encoder_generator_loss(batch(), tick(game))
    assert logs["encoder_generator"].item() == pytest.approx(math.log(2))


def test_the_penalty_comes_every_interval_and_is_scaled_by_it() -> None:
    game = frame_game(roth={"interval": 3, "gamma": 2.0, "gamma_floor": 0.25})
    game.restraint.roth.pressure.fill_(1.5)
    seen = {}
    for step in range(7):
        loss, logs = discriminator_loss(game, step=step, progress=0.5)
        game.after_update({"discriminator": torch.tensor(1.0)})
        game.restraint.roth.pressure.fill_(1.5)
        seen[step] = "roth" in logs
        if "roth" in logs:
            gamma = 2.0 * 0.25**0.5 * 1.5
            added = (loss - logs["discriminator"]).item()
            assert added == pytest.approx(0.5 * gamma * 3 * logs["roth"].item(), rel=1e-4)
            assert added > 0
        else:
            assert loss.item() == logs["discriminator"].item()
    assert [step for step, there in seen.items() if there] == [0, 3, 6]


@pytest.mark.parametrize("first", [0, 1])
def test_the_penalty_goes_by_the_moves_of_a_d_that_rests_every_other_update(first: int) -> None:
    """By the update's number a D that moves at odd ones would hardly ever have it."""
    game = frame_game(roth={"interval": 4})
    moves = []
    for step in range(17):
        _, logs = discriminator_loss(game, step=step)
        if logs["resting"] == 0:
            moves.append("roth" in logs)
        rests = step % 2 == first
        game.after_update({"discriminator": torch.tensor(0.0 if rests else 1.0)})
    assert moves == [move % 4 == 0 for move in range(len(moves))]
    assert game.restraint.moves.item() == len(moves) >= 8


def test_a_state_that_does_not_count_ds_moves_is_gone_on_with() -> None:
    game = frame_game()
    game.restraint.moves.fill_(7)
    state = game.state_dict()
    frame_game(seed=1).load_state_dict(state)
    del state["restraint.moves"]
    game.load_state_dict(state)
    assert game.restraint.moves.item() == 0


def test_pressure_moves_after_an_update_and_not_in_its_parts() -> None:
    game = frame_game(roth={"target": 10.0, "pressure_rate": 0.5})  # D is always under target
    for _ in range(3):
        _, logs = discriminator_loss(game)
    assert game.restraint.roth.pressure.item() == 1
    assert logs["pressure"].item() == 1
    game.after_update(logs)
    assert game.restraint.roth.pressure.item() == pytest.approx(math.exp(0.5))
    assert logs["pressure"].item() == 1  # what was logged is not moved with it


class Given(torch.nn.Module):
    """A G that gives the same frames whatever it sees."""

    def __init__(self, frames: torch.Tensor) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.seen = z.detach()
        return self.frames


def test_reconstruction_terms_vanish_where_g_undoes_e() -> None:
    game, x = frame_game(latent_noise=0.0), batch()
    game.model.generator = Given(x)
    _, logs = game.encoder_generator_loss(x, tick(game))
    assert logs["pixels"].item() == 0
    assert logs["features"].item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("settings", [{}, {"squared": 3.0}])
def test_pixel_terms_by_hand(settings: dict[str, float]) -> None:
    game = frame_game(latent_noise=0.0, **settings)
    x = torch.zeros(4, 3, 32, 32)

    game.model.generator = Given(torch.full((4, 3, 32, 32), 0.5))
    _, logs = game.encoder_generator_loss(x, tick(game))
    assert logs["pixels"].item() == pytest.approx(0.5 + settings.get("squared", 10.0) * 0.25)


def test_g_learns_from_latents_with_noise_of_a_level_of_each_frames_own() -> None:
    game, x = frame_game(latent_noise=0.5), batch(count=400)
    game.model.generator = Given(x)
    with torch.no_grad():
        game.encoder_generator_loss(x, tick(game))
        noise = game.model.generator.seen - game.model.encoder(x)
    level = noise.flatten(1).std(1)  # of 64 numbers each
    assert 0.2 < level.mean() < 0.3
    assert level.min() < 0.05
    assert 0.4 < level.max() < 0.7
    assert noise.mean().abs() < 0.01


def test_d_joins_after_a_share_of_the_budget_and_sits_out_until_then() -> None:
    game = frame_game(game_start=0.5)
    for progress, plays in ((0.0, False), (0.49, False), (0.5, True), (1.0, True)):
        now = tick(game, progress=progress)
        _, ours = game.encoder_generator_loss(batch(), now)
        loss, theirs = game.discriminator_loss(batch(), now)
        assert ("encoder_generator" in ours) == ("discriminator" in theirs) == plays
        assert loss.requires_grad == plays
    game.after_update({})  # an update without D moves no pressure
    assert game.restraint.roth.pressure.item() == 1


def test_d_judges_the_very_pairs_that_e_and_g_made() -> None:
    game = frame_game(game_share=0.5, latent_noise=0.0)
    now = tick(game)
    x = batch()
    with torch.no_grad():
        inferred = game.model.encoder(x)[::2]
    game.encoder_generator_loss(x, now)
    (seen, z), (generated, _) = now.passed_on["pairs"]
    assert torch.equal(seen, x[::2])
    torch.testing.assert_close(z, inferred)
    with torch.no_grad():
        torch.testing.assert_close(generated, game.model.generator(z), rtol=1e-4, atol=1e-5)
    assert not any(part.requires_grad for part in (seen, z, generated))
    with torch.no_grad():
        expected = softplus(game.discriminator(generated, z) - game.discriminator(seen, z))
    _, logs = game.discriminator_loss(x, now)
    assert logs["discriminator"].item() == pytest.approx(expected.mean().item(), rel=1e-4)
