"""The two players' losses, and who moves whom."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_models import FRAME, frame_game, tick
from torch.nn.functional import softplus

from ldf_video.models.game import Logs, Player, Tick
from ldf_video.models.grid import GridGame
from ldf_video.training.loop import TrainConfig, Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ldf_video.models.game import Part


def batch(seed: int = 0, count: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, FRAME.height, FRAME.width, generator=generator) * 2 - 1


def discriminator_loss(game: GridGame, *, step: int = 1, progress: float = 0.0, seed: int = 0):
    now = tick(game, seed, step=step, progress=progress)
    game.encoder_generator_loss(batch(), now)  # leaves the pairs
    return game.discriminator_loss(batch(), now)


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
    for step in range(33):
        _, logs = discriminator_loss(game, step=step)
        if logs["resting"] == 0:
            moves.append("roth" in logs)
        rests = step % 2 == first
        game.after_update({"discriminator": torch.tensor(0.0 if rests else 1.0)})
    assert moves == [move % 4 == 0 for move in range(len(moves))]
    assert game.restraint.moves.item() == len(moves) >= 16


def test_a_state_that_does_not_count_ds_moves_is_gone_on_with() -> None:
    game = frame_game()
    game.restraint.moves.fill_(7)
    state = game.state_dict()
    frame_game(seed=1).load_state_dict(state)
    del state["restraint.moves"]
    game.load_state_dict(state)
    assert game.restraint.moves.item() == 0


def test_d_stays_below_a_penalty_that_an_offset_of_its_logits_cannot_switch_off() -> None:
    """No pair can move D's last bias, which drifts: Roth's own weights go by it."""
    sides = {}
    for penalty in ("roth", "pair", "r1r2"):
        game = frame_game(roth={"penalty": penalty})
        with torch.no_grad():
            game.discriminator.head[2].bias.fill_(18.0)
        _, logs = discriminator_loss(game)
        sides[penalty] = (logs["roth_real"].item(), logs["roth_fake"].item())
        assert logs["roth"].item() == pytest.approx(sum(sides[penalty]))
        assert logs["logit"].item() == pytest.approx(18, abs=1)
    assert sides["roth"][0] < 1e-10 < sides["roth"][1]
    assert sides["pair"][0] == pytest.approx(sides["pair"][1], rel=0.5)
    assert sides["r1r2"][0] == pytest.approx(sides["r1r2"][1], rel=0.5)


def test_the_same_noise_gives_the_same_losses() -> None:
    losses = []
    for seed in (5, 5, 6):
        game = frame_game()
        first, _ = discriminator_loss(game, step=0, seed=seed)
        second, _ = game.encoder_generator_loss(batch(), tick(game, seed))
        losses.append((first.item(), second.item()))
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]
    assert losses[0][1] != losses[2][1]


def test_pressure_moves_after_an_update_and_not_in_its_parts() -> None:
    game = frame_game(roth={"target": 10.0, "pressure_rate": 0.5})  # D is always under target
    for _ in range(3):
        _, logs = discriminator_loss(game)
    assert game.restraint.roth.pressure.item() == 1
    assert logs["pressure"].item() == 1
    game.after_update(logs)
    assert game.restraint.roth.pressure.item() == pytest.approx(math.exp(0.5))
    assert logs["pressure"].item() == 1  # what was logged is not moved with it


def test_pressure_is_part_of_the_saved_state() -> None:
    game = frame_game()
    game.restraint.roth.pressure.fill_(7.0)
    other = frame_game(seed=1)
    other.load_state_dict(game.state_dict())
    assert other.restraint.roth.pressure.item() == 7.0


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

    game.model.generator = Undo()
    _, logs = game.encoder_generator_loss(x, tick(game))
    assert logs["pixels"].item() == 0
    assert logs["features"].item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("settings", [{}, {"squared": 3.0}])
def test_pixel_terms_by_hand(settings: dict[str, float]) -> None:
    game = frame_game(latent_noise=0.0, **settings)
    x = torch.zeros(4, 3, 32, 32)

    class Half(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.full((len(z), 3, 32, 32), 0.5)

    game.model.generator = Half()
    _, logs = game.encoder_generator_loss(x, tick(game))
    assert logs["pixels"].item() == pytest.approx(0.5 + settings.get("squared", 10.0) * 0.25)


def test_g_learns_from_latents_with_noise_of_a_level_of_each_frames_own() -> None:
    game, seen = frame_game(latent_noise=0.5), []
    x = batch(count=400)

    class Seen(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            seen.append(z.detach())
            return x

    game.model.generator = Seen()
    with torch.no_grad():
        game.encoder_generator_loss(x, tick(game))
        noise = seen[0] - game.model.encoder(x)
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
    seen, z, generated = now.passed_on["pairs"]
    assert torch.equal(seen, x[::2])
    torch.testing.assert_close(z, inferred)
    with torch.no_grad():
        torch.testing.assert_close(generated, game.model.generator(z), rtol=1e-4, atol=1e-5)
    assert not any(part.requires_grad for part in (seen, z, generated))
    with torch.no_grad():
        expected = softplus(game.discriminator(generated, z) - game.discriminator(seen, z))
    _, logs = game.discriminator_loss(x, now)
    assert logs["discriminator"].item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_d_rests_after_it_has_won_too_easily() -> None:
    game = frame_game(rest=10.0)  # every loss is under that
    loss, logs = discriminator_loss(game)
    assert loss.requires_grad
    game.after_update(logs)
    assert game.restraint.resting
    loss, logs = discriminator_loss(game, step=0)
    assert not loss.requires_grad
    assert logs["resting"].item() == 1
    assert "roth" not in logs
    game.after_update({"discriminator": torch.tensor(11.0)})
    assert not game.restraint.resting


class OnePlayerGame(GridGame):
    """Only the named player has a step; the others sit out."""

    name = "discriminator"

    @property
    def players(self) -> Sequence[Player]:
        return [
            player if player.name == self.name else _seated(player) for player in super().players
        ]


def _seated(player: Player) -> Player:
    def loss(batch: torch.Tensor, now: Tick) -> tuple[torch.Tensor, Logs]:
        value, logs = player.loss(batch, now)
        return value.detach(), logs

    return replace(player, loss=loss)


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

    def describe(self, model: Any, values: Any) -> str:
        return ""

    def draw(self, model: Any, path: Path) -> None: ...


@pytest.mark.parametrize("name", ["discriminator", "encoder_generator"])
def test_a_step_moves_its_own_player_and_no_other_bit(name: str, tmp_path: Path) -> None:
    game = frame_game()
    game.__class__, game.name = OnePlayerGame, name
    own = {"discriminator": game.discriminator, "encoder_generator": game.model}
    before = {key: _copy(network) for key, network in own.items()}
    trainer = Trainer(Level(game), tmp_path, config=TrainConfig(steps=2))

    trainer.update(0.0)  # the penalty is due at step 0: it must not reach E and G either

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
