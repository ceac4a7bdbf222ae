"""An update: which items it sees, its noise, one player's gradient, clipping, loss scaling."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from float64 import float64
from tiny_models import FRAME, ali_game, few_game, flow, frame_game, mlp_game, rolled_game
from tiny_trainings import (
    FrameGameLevel,
    LatentLevel,
    OneNumber,
    SmallLevel,
    assert_same,
    metrics,
    run,
    trainer_in,
)
from torch import nn

from ldf_video.models.flow_loss import FlowGame
from ldf_video.models.game import Noise, Part
from ldf_video.training import loop
from ldf_video.training.config import Cadence
from ldf_video.training.ranks import make_accelerator
from ldf_video.training.update import frame_indices, windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


LENGTHS = np.array([1, 5, 4, 9, 2, 16])
"""With windows of 4 frames: 1, 2, 1, 6, 1 and 13 places to start."""


def draw(seed: int = 0, step: int = 0, *, batch_size: int = 500):
    return windows(seed, step, lengths=LENGTHS, window=4, batch_size=batch_size)


def test_draws_are_functions_of_seed_and_step() -> None:
    for function in (
        lambda seed, step: frame_indices(seed, step, num_frames=1000, batch_size=64),
        lambda seed, step: np.stack(draw(seed, step)),
    ):
        assert np.array_equal(function(3, 7), function(3, 7))
        different = {function(*pair).tobytes() for pair in [(3, 7), (7, 3), (3, 8), (4, 7)]}
        assert len(different) == 4


def test_frame_indices_cover_all_frames_and_no_other() -> None:
    indices = frame_indices(0, 0, num_frames=7, batch_size=500)
    assert indices.shape == (500,)
    assert set(indices.tolist()) == set(range(7))


def test_windows_are_equally_likely_whatever_clip_they_lie_in(monkeypatch) -> None:
    """Each number that the generator can give is one window: equal chances follow from its own."""

    class Counting:
        def integers(self, high: int, size: int) -> np.ndarray:
            assert size == high == 24
            return np.arange(high)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counting())
    clips, starts = draw(batch_size=24)
    assert Counter(clips.tolist()) == {0: 1, 1: 2, 2: 1, 3: 6, 4: 1, 5: 13}
    assert starts.tolist() == [0, 0, 1, 0, *range(6), 0, *range(13)]
    assert clips.dtype == starts.dtype == np.int64


@pytest.mark.parametrize("num_clips", [1, 3])
def test_clips_that_are_all_too_short(num_clips: int) -> None:
    clips, starts = windows(0, 0, lengths=np.full(num_clips, 2), window=16, batch_size=50)
    assert set(clips.tolist()) == set(range(num_clips))
    assert not starts.any()


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_parts_of_the_numbers_are_the_whole_numbers(count: int) -> None:
    whole = Noise(7)
    expected = [whole.normal(6, 2, 3), whole.uniform(6, 1), whole.normal(6, 5)]
    rows = 6 // count
    drawn = []
    for index in range(count):
        noise = Noise(7, Part(index, count))
        drawn.append([noise.normal(rows, 2, 3), noise.uniform(rows, 1), noise.normal(rows, 5)])
    for number, one in enumerate(expected):
        assert torch.equal(torch.cat([part[number] for part in drawn]), one)


def test_the_numbers_have_their_distributions() -> None:
    noise, state = Noise(0), torch.get_rng_state()
    normal, uniform = noise.normal(10_000), Noise(0).uniform(10_000)
    assert torch.equal(normal, Noise(0).normal(10_000))
    assert not torch.equal(normal, noise.normal(10_000))  # new at each call
    assert not torch.equal(normal, Noise(1).normal(10_000))
    assert torch.equal(torch.get_rng_state(), state)
    assert normal.mean().abs() < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert (uniform.min() >= 0, uniform.max() < 1) == (True, True)
    assert abs(uniform.mean() - 0.5) < 0.02


def test_rows_that_cannot_be_divided_are_refused() -> None:
    assert Part(1, 3).rows(np.arange(6)).tolist() == [2, 3]
    assert Part(1, 3).rows(torch.arange(6)).tolist() == [2, 3]
    assert Part().rows(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="7 rows: expected a multiple of 3"):
        Part(0, 3).rows(np.arange(7))


# -- parts of a batch ----------------------------------------------------------------------------


class RolledPairs(SmallLevel):
    """Frames, and pairs of random latents."""

    count = 24

    def batch(self, step: int, part: Part, device: torch.device) -> Any:
        generator = torch.Generator().manual_seed(step)
        x = torch.rand(self.count, 3, FRAME.height, FRAME.width, generator=generator) * 2 - 1
        pairs = torch.randn(self.count, 2, *FRAME.latent_shape, generator=generator)
        return part.rows(x), part.rows(pairs)


LEVELS: dict[str, Callable[[], SmallLevel]] = {
    "grid": lambda: FrameGameLevel(frame_game(moments=0.0, game_share=1.0), count=16),
    "share": lambda: FrameGameLevel(frame_game(moments=0.0), count=24),
    "rolled": lambda: RolledPairs(rolled_game()),
    "flow": lambda: LatentLevel(FlowGame(flow())),
    "few": lambda: LatentLevel(few_game()),
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
        *((name, accumulate) for name in ("grid", "flow", "few", "mlp") for accumulate in (2, 4)),
        *(  # of 12, 6 and 3: D sees every 4th
            (name, accumulate) for name in ("share", "rolled") for accumulate in (2, 4, 8)
        ),
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
    assert "roth" in logs or name in ("flow", "few")
    for mine, theirs in zip(whole, parts, strict=True):
        largest = max(g.abs().max() for g in mine)
        assert largest > 0
        for one, other in zip(mine, theirs, strict=True):
            assert one.dtype == torch.float64
            assert (one - other).abs().max() <= 1e-12 * largest
    assert logs.keys() == part_logs.keys()
    for value in logs.keys() - {
        "velocity",
        "moments",
        "moves",
        "moves_real",
    }:  # these are of each part's own
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


def test_a_step_moves_its_own_player_and_no_other_bit(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)  # the penalty is due: it must not reach E and G either
    game = trainer.level.game

    def weights() -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in game.named_parameters()}

    seen = [weights()]
    trainer.level.on_second_player = lambda step: seen.append(weights())
    logs = trainer.update(0.0)
    seen.append(weights())
    assert "roth" in logs
    for prefix, before, after in zip(("model.", "discriminator."), seen, seen[1:], strict=False):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        own = {name for name in before if name.startswith(prefix)}
        assert moved == own - {"discriminator.head.2.bias"}  # no pair can move D's last bias


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
