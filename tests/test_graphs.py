"""Updates that are recorded and played back do what updates do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from float64 import float64
from tiny_models import ali_game, frame_game
from tiny_trainings import FrameGameLevel, run, trainer_in
from torch.utils._python_dispatch import TorchDispatchMode

from ldf_video.models.noise import Noise, Part, StandingNoise
from ldf_video.progress import Progress
from ldf_video.training.config import TrainConfig
from ldf_video.training.graphs import REHEARSALS, CudaGraphs, find_recorder
from ldf_video.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ldf_video.training.loop import Trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class NoHostReads(TorchDispatchMode):
    """Refuses what waits for the device: numbers that Python reads, shapes that data decides."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        if name.startswith(self.REFUSED):
            raise AssertionError(f"a recorded update calls {name}")
        return func(*args, **(kwargs or {}))


class StandIn:
    """Plays work back by doing it once more, as it was first set down, where there is no GPU."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken, self.rehearsed, self.recorded, self.played = broken, 0, 0, 0

    def rehearse(self, perform: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.rehearsed += 1
        return perform()

    def record(self, perform: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        if self.broken:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        self.recorded += 1
        result: list[torch.Tensor] = []

        def again() -> torch.Tensor:
            self.played += 1
            with NoHostReads():
                values = perform()
            if not result:
                result.append(values)
            return result[0].copy_(values)

        return again


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with float64():
        yield


def trained(
    directory: Path, game: Any, recorder: Any, *, steps: int = 16, **config: Any
) -> tuple[Trainer, list[dict[str, float]]]:
    """A training of some updates, and what each of them logged."""
    level = FrameGameLevel(game(), count=8)
    config = {"steps": steps, "batch_size": 8, **config}
    trainer = trainer_in(directory, level, recorder=recorder, **config)
    logs = [trainer._update(step / steps) for step in range(steps)]
    return trainer, [{name: value.item() for name, value in each.items()} for each in logs]


def assert_close(ours: Trainer, theirs: Trainer) -> None:
    """All that updates move is alike: a recorded learning rate is of float32, all else equal."""
    mine, other = ours._learned().state_dict(), theirs._learned().state_dict()
    for part in ("networks", "average"):
        for name, value in mine[part].items():
            torch.testing.assert_close(value, other[part][name], rtol=1e-4, atol=1e-7)
    for a, b in zip(mine["optimizers"], other["optimizers"], strict=True):
        assert a["state"].keys() == b["state"].keys()
        for number, moments in a["state"].items():
            for name in ("step", "exp_avg", "exp_avg_sq"):
                close = {"rtol": 1e-3, "atol": 1e-7}
                torch.testing.assert_close(moments[name], b["state"][number][name], **close)


def grid() -> Any:
    """A game whose D joins halfway, rests and is penalised: every kind of update."""
    roth = {"interval": 3, "target": 0.8, "pressure_rate": 0.3}
    return frame_game(game_start=0.25, rest=0.7, latent_noise=0.3, roth=roth, game_share=0.5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_recorded_training_is_the_training(tmp_path: Path, accumulate: int) -> None:
    recorder = StandIn()
    plain, expected = trained(tmp_path / "plain", grid, None, accumulate=accumulate, steps=24)
    ours, logs = trained(tmp_path / "ours", grid, recorder, accumulate=accumulate, steps=24)
    for mine, other in zip(logs, expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert_close(ours, plain)
    assert {each["resting"] for each in expected if "resting" in each} == {0, 1}
    assert any("roth" in each for each in expected)
    assert recorder.recorded >= 2
    assert recorder.played > recorder.recorded
    assert recorder.played + recorder.rehearsed == 24


def test_the_papers_game_is_recorded_too(tmp_path: Path) -> None:
    recorder = StandIn()
    plain, expected = trained(tmp_path / "plain", ali_game, None)
    ours, logs = trained(tmp_path / "ours", ali_game, recorder)
    for mine, other in zip(logs, expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert_close(ours, plain)
    assert recorder.played > 0


def test_every_kind_of_update_has_its_rehearsals_and_one_recording(tmp_path: Path) -> None:
    recorder = StandIn()
    settings = {"game_start": 0.5, "rest": 0.0, "roth": {"interval": 2}}
    trained(tmp_path, lambda: frame_game(**settings), recorder, steps=24)
    # without D; with D and its penalty; with D alone: 12, 6 and 6 updates
    assert (recorder.recorded, recorder.rehearsed) == (3, 3 * REHEARSALS)
    assert recorder.played == 24 - 3 * REHEARSALS


def test_what_an_update_logs_is_not_written_over(tmp_path: Path) -> None:
    trainer, _ = trained(tmp_path, frame_game, StandIn(), steps=12)
    first = trainer._update(0.5)
    kept = {name: value.item() for name, value in first.items()}
    trainer._update(0.5)
    assert {name: value.item() for name, value in first.items()} == kept


def test_where_recording_fails_training_goes_on_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = trainer_in(tmp_path / "plain", FrameGameLevel(), steps=8)
    run(plain)
    ours = trainer_in(tmp_path / "ours", FrameGameLevel(), steps=8, recorder=StandIn(broken=True))
    with Progress("train-frame", unit="steps") as progress:
        ours.run(progress)
    assert ours.step == 8
    assert_close(ours, plain)
    said = [line for line in capsys.readouterr().err.splitlines() if "recorded" in line]
    reason = "operation not permitted when stream is capturing"
    assert said == [f"train-frame: updates cannot be recorded here, so they are slower: {reason}"]


def test_a_recorded_run_goes_on_unrecorded_and_the_other_way_round(tmp_path: Path) -> None:
    straight = trainer_in(tmp_path / "straight", FrameGameLevel(), steps=16)
    run(straight)
    for name, recorders in {"off": (StandIn(), None), "on": (None, StandIn())}.items():
        first = trainer_in(tmp_path / name, FrameGameLevel(), steps=16, recorder=recorders[0])
        while first.step < 8:
            first._update(first.step / 16)
        first.save()
        second = trainer_in(tmp_path / name, FrameGameLevel(), steps=16, recorder=recorders[1])
        assert second.step == 8
        run(second)
        assert_close(second, straight)


def test_recordings_are_dropped_when_a_saved_state_is_loaded(tmp_path: Path) -> None:
    recorder = StandIn()
    trainer, _ = trained(tmp_path, lambda: frame_game(game_start=1.0), recorder, steps=6)
    assert recorder.recorded == 1
    trainer.save()
    trainer._resume()  # optimizers' moments stand elsewhere now
    for _ in range(REHEARSALS + 1):
        trainer._update(0.5)
    assert recorder.recorded == 2


def test_a_game_that_says_no_kind_is_not_recorded(tmp_path: Path) -> None:
    recorder, game = StandIn(), frame_game()
    game.kind = lambda step, progress: None
    trainer = trainer_in(tmp_path, FrameGameLevel(game), recorder=recorder)
    with pytest.raises(AttributeError):  # this one needs it
        trainer._update(0.0)
    assert recorder.rehearsed == 0


def test_standing_noise_is_the_noise_of_its_seed_in_the_same_memory() -> None:
    part = Part(1, 2)
    standing, places = StandingNoise(0, part), set()
    for seed in (7, 7, 8):
        standing.renew(seed)
        plain = Noise(seed, part)
        for shape in ((4, 3), (4, 1)):
            mine = standing.normal(*shape)
            assert torch.equal(mine, plain.normal(*shape))
            places.add((shape, mine.data_ptr()))
        assert torch.equal(standing.uniform(4, 2), plain.uniform(4, 2))
    assert len(places) == 2


def test_standing_noise_refuses_another_order() -> None:
    noise = StandingNoise(0)
    noise.normal(4, 3)
    noise.renew(1)
    with pytest.raises(ValueError, match=r"asked for \(4, 2\), recorded \(4, 3\)"):
        noise.normal(4, 2)
    noise.renew(1)
    with pytest.raises(ValueError, match="recorded"):
        noise.uniform(4, 3)


def test_only_what_can_be_recorded_whole_is() -> None:
    for device in ("cpu", "mps"):
        assert find_recorder(device, TrainConfig(steps=1), Ranks()) is None
    for config, ranks in (
        (TrainConfig(steps=1, optimizer="adam8bit"), Ranks()),
        (TrainConfig(steps=1, mixed_precision="fp16"), Ranks()),
        (TrainConfig(steps=1), Ranks(0, 2)),
    ):
        assert find_recorder("cuda", config, ranks) is None


@pytest.mark.needs_cuda
@needs_cuda
@pytest.mark.parametrize("make", [grid, ali_game], ids=["grid", "ali"])
def test_a_cuda_graph_is_the_training(tmp_path: Path, make: Callable[[], Any]) -> None:
    plain, expected = trained(tmp_path / "plain", make, None, steps=24, device="cuda")
    ours, logs = trained(tmp_path / "ours", make, CudaGraphs(), steps=24, device="cuda")
    assert ours._recordings.trouble is None
    for mine, other in zip(logs, expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert_close(ours, plain)
