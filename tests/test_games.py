"""What holds of every game: who moves whom, its noise, restraint of D; and the joint baseline's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from joint import JointConfig, JointGame, JointGameConfig, JointModel
from tiny_models import ali_game, flow, frame_game, mlp_game, tick
from tiny_trainings import FrameGameLevel, LatentLevel

from ldf_video.models.condition import Windows
from ldf_video.models.flow_loss import FlowGame
from ldf_video.models.game import Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.models.game import Game, Logs


JOINT = JointConfig(num_frames=3, noise_size=8, width=4)


def joint_game() -> JointGame:
    torch.manual_seed(0)
    game = JointGame(JointModel(JOINT), JointGameConfig())
    with torch.no_grad():
        for weight in game.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return game


GAMES: dict[str, Callable[[], Any]] = {
    "grid": frame_game,
    "paper": ali_game,
    "mlp": mlp_game,
    "joint": joint_game,
}
every_game = pytest.mark.parametrize("make", GAMES.values(), ids=GAMES)


def clips(count: int) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 3, 32, 32, generator=numbers) * 2 - 1


def batch_of(game: Any) -> Any:
    if isinstance(game, JointGame):
        return clips(4)
    level = LatentLevel(game) if hasattr(game.model.config, "window") else FrameGameLevel(game)
    return level.batch(0, Part(), torch.device("cpu"))


def losses(game: Game, seed: int = 0) -> dict[str, tuple[torch.Tensor, Logs]]:
    """Of each player, in turn, in the first update."""
    now = tick(game, seed)
    return {player.name: player.loss(batch_of(game), now) for player in game.players}


@every_game
def test_the_players_own_all_weights_between_them_and_share_none(make: Callable[[], Any]) -> None:
    game = make()
    owned = [id(p) for player in game.players for n in player.networks for p in n.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in game.parameters()}


@every_game
def test_ds_gradient_reaches_all_of_d_and_nothing_else(make: Callable[[], Any]) -> None:
    game = make()
    loss, logs = losses(game)["discriminator"]
    loss.backward()
    assert logs["roth"] > 0
    # A relativistic loss cannot move D's last bias, which shifts both logits alike.
    own = [
        p
        for name, p in game.discriminator.named_parameters()
        if name not in ("head.bias", "head.2.bias")
    ]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in own)
    others = {id(p) for p in game.parameters()} - {id(p) for p in game.discriminator.parameters()}
    assert all(p.grad is None for p in game.parameters() if id(p) in others)


@every_game
def test_the_other_sides_gradient_reaches_all_of_its_networks(make: Callable[[], Any]) -> None:
    game = make()
    game.discriminator.requires_grad_(False)
    (player,) = [player for player in game.players if player.name != "discriminator"]
    losses(game)[player.name][0].backward()
    for network in player.networks:
        for name, weight in network.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.abs().max() > 0, name


@every_game
def test_the_same_noise_gives_the_same_losses(make: Callable[[], Any]) -> None:
    first, again, other = (
        {name: loss.item() for name, (loss, _) in losses(make(), seed).items()}
        for seed in (5, 5, 6)
    )
    assert first == again
    assert all(first[name] != other[name] for name in first)


@every_game
def test_pressure_answers_to_how_d_fared_and_is_saved(make: Callable[[], Any]) -> None:
    game, saved = make(), make()
    game.after_update({"discriminator": torch.tensor(0.0)})
    pressed = game.restraint.roth.pressure.item()
    assert pressed > 1
    saved.load_state_dict(game.state_dict())
    assert saved.restraint.roth.pressure.item() == pressed
    game.after_update({})  # an update without D moves no pressure
    assert game.restraint.roth.pressure.item() == pressed
    game.after_update({"discriminator": torch.tensor(1.3)})
    assert game.restraint.roth.pressure.item() < pressed


def masked(game: Game, padding: float) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Losses of all players and the gradients of their own weights, of clips of unlike lengths."""
    config, found = game.model.config, []
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, config.window, *config.latent_shape, generator=generator)
    lengths = torch.tensor([1, 2, 3, 4, config.window - 1, config.window])
    mask = torch.arange(config.window) < lengths[:, None]
    values[~mask] = padding
    for player in game.players:
        game.requires_grad_(False)
        weights = [p for n in player.networks for p in n.requires_grad_().parameters()]
        loss, _ = player.loss(Windows(values, mask), tick(game))
        loss.backward()
        found.append((loss.detach(), [p.grad for p in weights]))
    return found


@pytest.mark.parametrize("make", [lambda: FlowGame(flow()), mlp_game], ids=["flow", "mlp"])
@pytest.mark.parametrize("padding", [float("nan"), float("inf"), 1e30, -7.0])
def test_what_lies_under_the_mask_changes_no_bit(make: Callable[[], Any], padding: float) -> None:
    for (loss, own), (other_loss, other) in zip(
        masked(make(), 0.0), masked(make(), padding), strict=True
    ):
        assert torch.equal(loss, other_loss)
        assert loss.isfinite()
        assert all(torch.equal(a, b) for a, b in zip(own, other, strict=True))
        assert any(a.abs().max() > 0 for a in own)


@pytest.mark.parametrize("make", [frame_game, ali_game])
def test_d_sees_both_parts_of_a_pair(make: Callable[[], Any]) -> None:
    D, x = make().discriminator, clips(3)[:, 0]
    z = torch.randn(3, *make().model.config.latent_shape)
    with torch.no_grad():
        logits = D(x, z)
        assert not torch.allclose(D(x.flip(0), z)[0], logits[0])
        assert not torch.allclose(D(x, z.flip(0))[0], logits[0])


# -- the joint baseline --------------------------------------------------------------------------


def test_frames_of_the_joint_game_are_channels() -> None:
    made = joint_game()
    assert made.model(torch.randn(2, 8)).shape == (2, 3, 3, 32, 32)
    assert made.discriminator(clips(2)).shape == (2,)
    # A frame is three channels next to each other: that is what D sees too.
    x = clips(1)
    torch.testing.assert_close(x.flatten(1, 2)[0, 3:6], x[0, 1])


def test_the_joint_game_starts_undecided() -> None:
    fresh = JointGame(JointModel(JOINT), JointGameConfig())
    loss, logs = fresh.discriminator_loss(clips(4), tick(fresh))
    assert loss.item() == pytest.approx(math.log(2))
    assert logs["roth"].item() == 0
    assert fresh.generator_loss(clips(4), tick(fresh))[0].item() == pytest.approx(math.log(2))


def test_the_joint_games_discriminator_never_rests_and_both_sides_are_penalised_alike() -> None:
    made = joint_game()
    _, logs = made.discriminator_loss(clips(4), tick(made))
    with torch.enable_grad():
        x = clips(4).requires_grad_()
        (slope,) = torch.autograd.grad(made.discriminator(x).sum(), x)
    expected = slope.flatten(1).square().sum(1).mean()
    torch.testing.assert_close(logs["roth_real"], expected, rtol=1e-4, atol=0)
    made.after_update({"discriminator": torch.tensor(0.0)})
    assert tick(made).kind.moves
