"""What holds of every game with a discriminator: who moves whom, its noise, restraint of D."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from joint_gan import JointConfig, JointGame, JointModel
from tiny_models import ali_game, frame_game, mlp_game, tick
from tiny_trainings import FrameGameLevel, LatentLevel

from ldf_video.models.game import Part
from ldf_video.models.gan import GanConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.models.game import Game, Logs


def joint_game() -> JointGame:
    torch.manual_seed(0)
    config = JointConfig(num_frames=3, noise_size=8, base_width=4)
    game = JointGame(JointModel(config), GanConfig())
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


def batch_of(game: Any) -> Any:
    if isinstance(game, JointGame):
        numbers = torch.Generator().manual_seed(1)
        return torch.rand(4, 3, 3, 32, 32, generator=numbers) * 2 - 1
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
    own = [p for name, p in game.discriminator.named_parameters() if name != "head.2.bias"]
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
