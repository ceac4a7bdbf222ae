"""One player's step: the parts of a batch, its gradient alone, clipping, loss scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from float64 import float64
from tiny_models import ali_game, flow, frame_game, mlp_game
from tiny_trainings import (
    FrameGameLevel,
    OneNumber,
    SmallLevel,
    assert_same,
    metrics,
    run,
    trainer_in,
)
from torch import nn

from ldf_video.models.flow import FlowGame
from ldf_video.training import loop
from ldf_video.training.config import Cadence
from ldf_video.training.ranks import make_accelerator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ldf_video.models.game import Game, Part

# -- parts of a batch ----------------------------------------------------------------------------


class LatentLevel(SmallLevel):
    """Windows of random latents, some of them padded."""

    count = 16

    def __init__(self, game: Game) -> None:
        super().__init__(game)
        self.config = game.model.config

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        shape, t = self.config.latent_shape, self.config.window
        generator = torch.Generator().manual_seed(step)
        mask = torch.arange(t) < torch.randint(1, t + 1, (16, 1), generator=generator)
        return part.of(torch.randn(16, t, *shape, generator=generator)), part.of(mask)


LEVELS: dict[str, Callable[[], SmallLevel]] = {
    "grid": lambda: FrameGameLevel(frame_game(moments=0.0, game_share=1.0), count=16),
    "share": lambda: FrameGameLevel(frame_game(moments=0.0), count=24),
    "flow": lambda: LatentLevel(FlowGame(flow())),
    "mlp": lambda: LatentLevel(mlp_game()),
    "paper": lambda: FrameGameLevel(ali_game(), count=16),
}


def gradients_of(
    directory: Path, level: SmallLevel, monkeypatch: pytest.MonkeyPatch, **config: Any
) -> tuple[list[list[torch.Tensor]], dict[str, torch.Tensor]]:
    """Each player's gradient in the first update, in which no weight moves, and what is logged."""
    found = []
    whole = nn.utils.clip_grad_norm_

    def look(parameters: list[nn.Parameter], norm: float) -> torch.Tensor:
        found.append([p.grad.clone() for p in parameters])
        return whole(parameters, norm)

    with monkeypatch.context() as patched:
        patched.setattr(nn.utils, "clip_grad_norm_", look)
        chosen = {"batch_size": 16, "learning_rate": 0.0, **config}
        logs = trainer_in(directory, level, **chosen).update(0.25)
    return found, logs


@pytest.mark.parametrize(
    ("name", "accumulate"),
    [
        *((name, accumulate) for name in ("grid", "flow", "mlp") for accumulate in (2, 4)),
        *(("share", accumulate) for accumulate in (2, 4, 8)),  # of 12, 6 and 3: D sees every 4th
    ],
)
def test_gradients_of_parts_are_those_of_the_whole_batch(
    tmp_path: Path, name: str, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sums in another order: they differ by rounding, in float64 so that it is little."""
    with float64():
        size = LEVELS[name]().count
        whole, logs = gradients_of(tmp_path / "a", LEVELS[name](), monkeypatch, batch_size=size)
        parts, part_logs = gradients_of(
            tmp_path / "b", LEVELS[name](), monkeypatch, batch_size=size, accumulate=accumulate
        )
    assert "roth" in logs or name == "flow"
    for mine, theirs in zip(whole, parts, strict=True):
        largest = max(g.abs().max() for g in mine)
        assert largest > 0
        for one, other in zip(mine, theirs, strict=True):
            assert one.dtype == torch.float64
            assert (one - other).abs().max() <= 1e-12 * largest
    assert logs.keys() == part_logs.keys()
    for value in logs.keys() - {"velocity", "moments"}:  # these are of each part's own
        assert part_logs[value].item() == pytest.approx(logs[value].item(), rel=1e-12)


@pytest.mark.parametrize("name", ["grid", "paper"])
def test_computing_inner_results_twice_changes_no_bit_of_a_gradient(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, logs = gradients_of(tmp_path / "a", LEVELS[name](), monkeypatch)
    twice, other_logs = gradients_of(
        tmp_path / "b", LEVELS[name](), monkeypatch, gradient_checkpointing=True
    )
    assert_same(kept, twice)
    assert_same(logs, other_logs)
    assert logs["roth"] > 0  # a gradient of a gradient is among them


# -- one player's alone --------------------------------------------------------------------------


def test_an_opponents_gradient_is_freed(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    held: list[bool] = []
    game = trainer.level.game
    trainer.level.on_second_player = lambda step: held.extend(
        p.grad is not None for p in game.parameters()
    )
    trainer.update(0.0)
    assert not any(held)
    assert held


def test_a_players_gradient_is_clipped(tmp_path: Path) -> None:
    level = OneNumber([1000.0])
    trainer = trainer_in(tmp_path, level, cadence=Cadence(log_steps=1), steps=1)
    run(trainer)
    assert metrics(tmp_path)[0]["gradient_norm/one"] == pytest.approx(1000)
    assert level.weight.grad.item() == pytest.approx(10)


def test_an_overflow_of_fp16_moves_no_weight_and_is_no_breakdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaling(device: str, *, mixed_precision: str) -> Any:
        accelerator = make_accelerator(device)  # fp16's, but for where it runs
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
        accelerator.native_amp = True
        accelerator.state._mixed_precision = "fp16"
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", scaling)
    level = OneNumber([8.0] * 4)
    weights = [level.weight.item()]
    level.on_batch = lambda step: weights.append(level.weight.item())
    run(trainer_in(tmp_path, level, cadence=Cadence(log_steps=1), steps=4))
    norms = [line.get("gradient_norm/one") for line in metrics(tmp_path) if "loss" in line]
    assert norms == [None, None, 8.0, 8.0]  # 8 * 2**124 is the first that float32 can hold
    assert weights[0] == weights[1] == weights[2] == weights[3] != weights[4]
