"""Updates that are recorded and played back do what updates do."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from float64 import float64
from tape import Tape
from tiny_models import ali_game, frame_game
from tiny_trainings import FrameGameLevel, OneNumber, run, trainer_in, training_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ldf_video.models.game import Noise, Part, StaticNoise, Tick
from ldf_video.models.gan import Turn
from ldf_video.progress import Progress
from ldf_video.training import graphs
from ldf_video.training.graphs import REHEARSALS, CudaGraphs, find_recorder
from ldf_video.training.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ldf_video.training.loop import Trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


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
    logs = [trainer.update(step / steps) for step in range(steps)]
    return trainer, [{name: value.item() for name, value in each.items()} for each in logs]


def assert_close(ours: Trainer, theirs: Trainer) -> None:
    """All that updates move is alike: a recorded learning rate is of float32, all else double."""
    mine, other = ours.state_dict(), theirs.state_dict()
    for part in ("networks", "average"):
        for name, value in mine[part].items():
            torch.testing.assert_close(value, other[part][name], rtol=1e-4, atol=1e-7)
    for a, b in zip(mine["optimizers"], other["optimizers"], strict=True):
        assert a["state"].keys() == b["state"].keys()
        for number, moments in a["state"].items():
            assert moments.keys() == b["state"][number].keys() != set()
            for name, value in moments.items():
                close = {"rtol": 1e-3, "atol": 1e-7}
                torch.testing.assert_close(value, b["state"][number][name], **close)


def grid() -> Any:
    """A game whose D joins halfway, rests and is penalised: every kind of update."""
    roth = {"interval": 3, "target": 0.8, "pressure_rate": 0.3}
    return frame_game(game_start=0.25, rest=0.7, latent_noise=0.3, roth=roth, game_share=0.5)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (grid, {"accumulate": 2, "optimizer": "muon"}),
        (grid, {"accumulate": 2, "optimizer": "adam"}),
        (grid, {"gradient_checkpointing": True}),
        (ali_game, {}),
    ],
    ids=["muon", "adam", "checkpointing", "paper"],
)
def test_a_recorded_training_is_the_training(
    tmp_path: Path, make: Callable[[], Any], options: dict[str, Any]
) -> None:
    recorder = Tape()
    plain, expected = trained(tmp_path / "plain", make, None, steps=24, **options)
    ours, logs = trained(tmp_path / "ours", make, recorder, steps=24, **options)
    for mine, other in zip(logs, expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert_close(ours, plain)
    if make is grid:
        assert {each["resting"] for each in expected if "resting" in each} == {0, 1}
    assert any("roth" in each for each in expected)
    assert recorder.recorded >= 2
    assert recorder.played > recorder.recorded
    assert recorder.played + recorder.rehearsed == 24
    assert logs[-2] != logs[-1]


def test_every_kind_of_update_has_its_rehearsals_and_one_recording(tmp_path: Path) -> None:
    recorder = Tape()
    settings = {"game_start": 0.5, "rest": 0.0, "roth": {"interval": 2}}
    trained(tmp_path, lambda: frame_game(**settings), recorder, steps=24)
    # without D; with D and its penalty; with D alone: 12, 6 and 6 updates
    assert recorder.rehearsed == 3 * REHEARSALS
    assert recorder.recorded == 3
    assert recorder.played == 24 - 3 * REHEARSALS
    assert recorder.cleared == recorder.rehearsed  # without recordings beside it


def test_what_was_dropped_is_recorded_again_when_it_is_due(tmp_path: Path) -> None:
    """For a newcomer without rehearsals, and with them after another state was loaded."""
    recorder, game = Tape(), frame_game()
    trainer = trainer_in(tmp_path, FrameGameLevel(game), recorder=recorder, steps=20)
    kinds = iter("aaaabbbbaabbbb")
    real = {"a": Turn(False, False, False), "b": Turn(True, True, False)}
    game.kind = lambda step, progress: real[next(kinds)]

    def update(times: int) -> tuple[int, int, int]:
        for _ in range(times):
            trainer.update(0.0)
        return recorder.rehearsed, recorder.recorded, recorder.cleared

    assert update(4) == (2, 1, 2)
    assert update(4) == (4, 2, 4)
    assert update(3) == (4, 3, 4)  # a once more, b not
    trainer.load_state_dict(trainer.state_dict())  # optimizers' moments stand elsewhere now
    assert update(3) == (6, 4, 7)


def test_a_game_that_says_no_kind_is_not_recorded(tmp_path: Path) -> None:
    recorder = Tape()
    run(trainer_in(tmp_path, OneNumber([1.0] * 6), recorder=recorder))
    assert (recorder.rehearsed, recorder.recorded) == (0, 0)


def test_where_recording_fails_training_goes_on_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = trainer_in(tmp_path / "plain", FrameGameLevel(), steps=8)
    run(plain)
    ours = trainer_in(tmp_path / "ours", FrameGameLevel(), steps=8, recorder=Tape(broken=True))
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
    for name, recorders in {"off": (Tape(), None), "on": (None, Tape())}.items():
        first = trainer_in(tmp_path / name, FrameGameLevel(), steps=16, recorder=recorders[0])
        while first.step < 8:
            first.update(first.step / 16)
        first.save()
        second = trainer_in(tmp_path / name, FrameGameLevel(), steps=16, recorder=recorders[1])
        assert second.step == 8
        run(second)
        assert_close(second, straight)


def test_standing_noise_is_the_noise_of_its_seed_in_the_same_memory() -> None:
    part = Part(1, 2)
    standing, places = StaticNoise(0, part), set()
    for seed in (7, 7, 8):
        standing.renew(seed)
        plain = Noise(seed, part)
        for shape in ((4, 3), (4, 1)):
            mine = standing.normal(*shape)
            assert torch.equal(mine, plain.normal(*shape))
            places.add((shape, mine.data_ptr()))
        assert torch.equal(standing.uniform(4, 2), plain.uniform(4, 2))
    assert len(places) == 2
    standing.renew(8)
    with pytest.raises(ValueError, match=r"asked for \(4, 2\), recorded \(4, 3\)"):
        standing.normal(4, 2)
    with pytest.raises(ValueError, match="recorded"):  # as many, of another distribution
        standing.uniform(4, 3)


def test_only_what_can_be_recorded_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CudaGraphs", Tape)  # it takes a device to make one
    for more in ({"accumulate": 2}, {"optimizer": "muon"}):
        assert isinstance(find_recorder("cuda", training_of(steps=1, **more), Ranks()), Tape)
    for device in ("cpu", "mps"):
        assert find_recorder(device, training_of(steps=1), Ranks()) is None
    for config, ranks in (
        (training_of(steps=1, optimizer="adam8bit"), Ranks()),
        (training_of(steps=1, mixed_precision="fp16"), Ranks()),
        (training_of(steps=1), Ranks(0, 2)),
    ):
        assert find_recorder("cuda", config, ranks) is None


class OneDevice(TorchDispatchMode):
    """Notes operations on tensors of the CPU, which a recording would keep as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        if any(isinstance(leaf, torch.Tensor) and leaf.is_cpu for leaf in leaves):
            self.on_cpu.add(func.name())
        return out


class NoNumbers(Noise):
    """Noise on a device that has none."""

    def _numbers(self, draw: Any, shape: tuple[int, ...], device: Any) -> torch.Tensor:
        return torch.empty(shape, device=device)


@pytest.mark.parametrize("make", [grid, ali_game], ids=["grid", "ali"])
@pytest.mark.parametrize("penalised", [True, False])
def test_an_update_is_done_on_its_device_alone(
    make: Callable[[], Any], penalised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *a, **k: nullcontext())  # none on this device
    device = torch.device("meta")
    game, passed_on = make().to(device), {}
    progress = torch.zeros((), dtype=torch.float64, device=device)
    with OneDevice() as watch:
        for player in game.players:
            turn = Turn(True, True, penalised)
            tick = Tick(progress, NoNumbers(0), turn, passed_on)
            loss, logs = player.loss(torch.empty(8, 3, 32, 32, device=device), tick)
            loss.backward()
            assert {value.device for value in logs.values()} == {device}
        game.after_update(logs)
    assert watch.on_cpu == set()


@pytest.mark.needs_cuda
@needs_cuda
def test_a_capture_that_fails_leaves_a_training_that_goes_on(tmp_path: Path) -> None:
    game = frame_game()
    trainer = trainer_in(
        tmp_path, FrameGameLevel(game, count=8), recorder=CudaGraphs(), device="cuda", steps=20
    )
    loss = game.encoder_generator_loss
    trainer.players.steps[0].player = replace(
        trainer.players.steps[0].player,
        loss=lambda x, tick: (loss(x, tick), float(x.sum().item()))[0],
    )
    for _ in range(8):
        trainer.update(0.5)
    assert trainer.recordings.trouble is not None
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert all(weight.isfinite().all() for weight in game.parameters())


@pytest.mark.needs_cuda
@needs_cuda
@pytest.mark.parametrize("optimizer", ["muon", "adam"])
@pytest.mark.parametrize("make", [grid, ali_game], ids=["grid", "ali"])
def test_a_cuda_graph_is_the_training(
    tmp_path: Path, make: Callable[[], Any], optimizer: str
) -> None:
    more = {"steps": 24, "device": "cuda", "optimizer": optimizer}
    plain, expected = trained(tmp_path / "plain", make, None, **more)
    recorder = CudaGraphs()
    record, recorded = recorder.record, []
    recorder.record = lambda perform: (recorded.append(perform), record(perform))[1]  # type: ignore[method-assign]
    ours, logs = trained(tmp_path / "ours", make, recorder, **more)
    assert ours.recordings.trouble is None
    assert recorded
    for mine, other in zip(logs, expected, strict=True):
        assert mine == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert_close(ours, plain)
