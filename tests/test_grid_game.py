"""The two players' losses, and who moves whom."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_models import FRAME, frame_game, tick

from ldf_video.models.frame import every
from ldf_video.models.game import Player
from ldf_video.models.grid_game import GridGame
from ldf_video.training.loop import TrainConfig, Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ldf_video.models.noise import Part


def batch(seed: int = 0, count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, FRAME.height, FRAME.width, generator=generator) * 2 - 1


def discriminator_loss(game: GridGame, *, step: int = 1, progress: float = 0.0, seed: int = 0):
    return game.discriminator_loss(batch(), tick(seed, step=step, progress=progress))


def make_constant(game: GridGame) -> None:
    """D gives every pair the same logit."""
    with torch.no_grad():
        game.discriminator.head[2].weight.zero_()


def test_a_constant_discriminator_loses_ln_2() -> None:
    game = frame_game()
    make_constant(game)
    loss, logs = discriminator_loss(game, step=1)
    assert loss.item() == pytest.approx(math.log(2))
    assert logs["discriminator"].item() == pytest.approx(math.log(2))
    _, logs = game.encoder_generator_loss(batch(), tick())
    assert logs["encoder_generator"].item() == pytest.approx(math.log(2))


def test_the_penalty_comes_every_interval_and_is_scaled_by_it() -> None:
    game = frame_game(roth={"interval": 3, "gamma": 2.0, "gamma_floor": 0.25})
    game.roth.pressure.fill_(1.5)
    seen = {}
    for step in range(7):
        loss, logs = discriminator_loss(game, step=step, progress=0.5)
        seen[step] = "roth" in logs
        if "roth" in logs:
            gamma = 2.0 * 0.25**0.5 * 1.5
            added = (loss - logs["discriminator"]).item()
            assert added == pytest.approx(0.5 * gamma * 3 * logs["roth"].item(), rel=1e-4)
            assert added > 0
        else:
            assert loss.item() == logs["discriminator"].item()
    assert [step for step, there in seen.items() if there] == [0, 3, 6]


def test_the_same_noise_gives_the_same_losses() -> None:
    losses = []
    for seed in (5, 5, 6):
        game = frame_game()
        first, _ = discriminator_loss(game, step=0, seed=seed)
        second, _ = game.encoder_generator_loss(batch(), tick(seed))
        losses.append((first.item(), second.item()))
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]
    assert losses[0][1] != losses[2][1]


def test_pressure_moves_after_an_update_and_not_in_its_parts() -> None:
    game = frame_game(roth={"target": 10.0, "pressure_rate": 0.5})  # D is always under target
    for _ in range(3):
        _, logs = discriminator_loss(game)
    assert game.roth.pressure.item() == 1
    assert logs["pressure"].item() == 1
    game.after_update(logs)
    assert game.roth.pressure.item() == pytest.approx(math.exp(0.5))
    assert logs["pressure"].item() == 1  # what was logged is not moved with it


def test_pressure_is_part_of_the_saved_state() -> None:
    game = frame_game()
    game.roth.pressure.fill_(7.0)
    other = frame_game(seed=1)
    other.load_state_dict(game.state_dict())
    assert other.roth.pressure.item() == 7.0


def test_d_gets_its_gradient_through_d_alone() -> None:
    game = frame_game()
    loss, _ = discriminator_loss(game, step=0)
    loss.backward()
    assert all(p.grad is None for p in game.model.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in named_grads(game))


def named_grads(game: GridGame) -> list[torch.nn.Parameter]:
    # The very last bias shifts both logits alike and is the one weight that no pair can move.
    last = game.discriminator.head[2].bias
    return [p for p in game.discriminator.parameters() if p is not last]


def test_reconstruction_terms_vanish_where_g_undoes_e() -> None:
    game = frame_game(latent_noise=0.0)
    x = batch()

    class Undo(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return x

        def from_hidden(self, h: torch.Tensor) -> torch.Tensor:
            return every(x, game.config.shortcut_share)

    game.model.generator = Undo()
    _, logs = game.encoder_generator_loss(x, tick())
    assert logs["pixels"].item() == 0
    assert logs["shortcut"].item() == 0
    assert logs["features"].item() == pytest.approx(0, abs=1e-7)


def test_pixel_terms_by_hand() -> None:
    game = frame_game(latent_noise=0.0)
    x = torch.zeros(4, 3, 32, 32)

    class Half(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.full((len(z), 3, 32, 32), 0.5)

        from_hidden = forward

    game.model.generator = Half()
    _, logs = game.encoder_generator_loss(x, tick())
    assert logs["pixels"].item() == pytest.approx(0.5 + 0.25)
    assert logs["shortcut"].item() == pytest.approx(0.5 + 0.25)


class OnePlayerGame(GridGame):
    """Only the named player has a step."""

    name = "discriminator"

    @property
    def players(self) -> Sequence[Player]:
        return [player for player in super().players if player.name == self.name]

    def after_update(self, logs: Any) -> None:
        """Nothing: D may not have moved."""


class Level:
    """Random frames for a game."""

    score = "pixels"

    def __init__(self, game: GridGame) -> None:
        self.game = game

    def batch(self, step: int, part: Part, device: torch.device) -> torch.Tensor:
        return part.of(batch(step))

    def calibration(self, device: torch.device) -> None: ...

    def evaluate(self, model: Any) -> dict[str, float]:
        return {}

    def draw(self, model: Any, path: Path) -> None: ...


@pytest.mark.parametrize("name", ["discriminator", "encoder_generator"])
def test_a_step_moves_its_own_player_and_no_other_bit(name: str, tmp_path: Path) -> None:
    game = frame_game()
    game.__class__, game.name = OnePlayerGame, name
    own = {"discriminator": game.discriminator, "encoder_generator": game.model}
    before = {key: _copy(network) for key, network in own.items()}
    trainer = Trainer(Level(game), tmp_path, config=TrainConfig(steps=2))

    trainer._update(0.0)  # the penalty is due at step 0: it must not reach E and G either

    for key, network in own.items():
        same = [torch.equal(a, b) for a, b in zip(before[key], network.parameters(), strict=True)]
        if key != name:
            assert all(same)
            assert all(p.grad is None for p in network.parameters())
        elif key == "discriminator":
            assert sum(not s for s in same) >= len(same) - 1  # all but the last bias, see above
        else:
            assert not any(same)


def test_the_players_own_all_weights_between_them_and_share_none() -> None:
    game = frame_game()
    owned = [id(p) for player in game.players for n in player.networks for p in n.parameters()]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in game.parameters()}


def _copy(network: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]
