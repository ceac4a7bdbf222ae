"""A discriminator that wins too easily sits updates out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tick

from ldf_video.models.game import Part
from ldf_video.models.losses import GanConfig, Restraint, RothConfig
from ldf_video.models.mlp import MlpConfig, MlpGame, MlpTop
from ldf_video.progress import Progress
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer

SHAPE = (4, 1, 1)


def mlp_game(*, rest: float) -> MlpGame:
    torch.manual_seed(0)
    top = MlpTop(MlpConfig(latent_shape=SHAPE, window=3, noise_size=4, width=16, depth=2))
    return MlpGame(top, GanConfig(roth=RothConfig(interval=1), rest=rest))


class Level:
    """The game on the same few random sequences."""

    score = "none"

    def __init__(self, game: MlpGame) -> None:
        self.game = game

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        latents = torch.randn(8, 3, *SHAPE, generator=torch.Generator().manual_seed(step))
        return part.of(latents), torch.ones(8 // part.count, 3, dtype=torch.bool)

    def calibration(self, device: torch.device) -> None:
        pass

    def evaluate(self, model: Any) -> dict[str, float]:
        return {}

    def describe(self, model: Any, values: Any) -> str:
        return ""

    def draw(self, model: Any, path: Path) -> None:
        pass


def weights_after(steps: int, *, rest: float, path: Path, accumulate: int = 1) -> list[Any]:
    game = mlp_game(rest=rest)
    config = TrainConfig(steps=steps, batch_size=8, accumulate=accumulate, warmup_steps=1)
    Trainer(Level(game), path, config=config).run(Progress("test", unit="steps", quiet=True))
    return [game, *(p.detach().clone() for p in game.discriminator.parameters())]


def test_d_rests_the_update_after_a_loss_under_the_bound() -> None:
    restraint = Restraint(RothConfig(), rest=0.4)
    decisions = []
    for loss in (0.5, 0.39, 0.41):
        restraint.observe({"discriminator": torch.tensor(loss)})
        decisions.append(restraint.resting.item())
    assert decisions == [False, True, False]


def test_a_resting_d_says_its_loss_without_a_gradient_or_a_penalty() -> None:
    game = mlp_game(rest=100.0)
    batch = Level(game).batch(0, Part(), torch.device("cpu"))
    moving, moving_logs = game.discriminator_loss(batch, tick(game))
    game.after_update(moving_logs)
    resting, logs = game.discriminator_loss(batch, tick(game, step=1))
    assert moving.requires_grad
    assert not resting.requires_grad
    assert "roth" in moving_logs
    assert "roth" not in logs
    assert logs["discriminator"] == moving_logs["discriminator"]
    assert (moving_logs["resting"], logs["resting"]) == (0, 1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resting_d_does_not_move_and_the_other_side_does(tmp_path: Path, accumulate: int) -> None:
    _, *before = weights_after(1, rest=100.0, path=tmp_path / "one", accumulate=accumulate)
    game, *after = weights_after(4, rest=100.0, path=tmp_path / "four", accumulate=accumulate)
    _, *moved = weights_after(4, rest=0.0, path=tmp_path / "never", accumulate=accumulate)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    fresh = mlp_game(rest=100.0)
    pairs = zip(game.model.parameters(), fresh.model.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)


def test_a_config_comes_back_from_json() -> None:
    config = GanConfig(roth=RothConfig(gamma=3.0), rest=0.25)
    assert GanConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert np.isclose(GanConfig().rest, 0.5 * GanConfig().roth.target)
