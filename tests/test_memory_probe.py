"""--max-memory in a training: measured before it starts, kept by what goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cli import shrink
from tiny_models import frame_game, make_frames

from ldf_video.errors import UsageError
from ldf_video.levels import memory_probe
from ldf_video.levels.memory_plan import MIB, Footprint, Means, bytes_of
from ldf_video.levels.memory_probe import MainMemory, RandomFrames, stay_inside
from ldf_video.recipes import train_frame as pipeline
from ldf_video.recipes.train_frame import FrameLevel, train_frame
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.ranks import Ranks

says_memory = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the system does not say what it takes"
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with clips/; fresh models are tiny."""
    monkeypatch.chdir(tmp_path)
    shrink(monkeypatch.setattr)
    (tmp_path / "clips").mkdir()
    np.save(tmp_path / "clips" / "all.npy", make_frames(12, seed=0))
    return tmp_path


def train(root: Path, out: str = "run", **options: Any) -> dict[str, Any]:
    asked = {"steps": 2, "batch_size": 16, "seed": 1, "quiet": True, "device": "cpu"} | options
    return checkpoints.load_config(train_frame(root / "clips", out=root / out, **asked))


class FakeMeter:
    """Gives chosen peaks, one after the other: of the updates, of looking, of the next updates."""

    def __init__(self, *peaks: int) -> None:
        self._peaks = list(peaks)

    def now(self) -> int:
        return 100

    def reset(self) -> None:
        """Nothing."""

    def peak(self) -> int:
        return self._peaks.pop(0)


class FakeRehearsal:
    """100 MiB and 10 MiB a frame; half as much a frame with checkpointing."""

    asked: list[Means]

    def __init__(self, training: TrainConfig, *others: Any) -> None:
        del others
        self._frame = (5 if training.gradient_checkpointing else 10) * MIB
        self.asked.append(Means(training.optimizer, training.gradient_checkpointing))
        self.held = 0

    def footprint(self, **options: Any) -> Footprint:
        assert options["largest"] == 16
        return Footprint((0, 100 * MIB), (4, 100 * MIB + 4 * self._frame))


@pytest.fixture
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> type[FakeRehearsal]:
    monkeypatch.setattr(FakeRehearsal, "asked", [], raising=False)
    monkeypatch.setattr(memory_probe, "_Rehearsal", FakeRehearsal)
    monkeypatch.setattr(memory_probe, "MainMemory", FakeMeter)
    return FakeRehearsal


# -- what is picked ------------------------------------------------------------------------------


def fitted(budget: str, **given: Any) -> dict[str, Any]:
    """The "training" of a run's config, and the peak that is expected."""
    options = {"steps": 2, "batch_size": 16, "seed": 1, "max_memory": budget} | given
    config = pipeline.frame_run_config(options, out=Path("run"), device="cpu", ranks=Ranks())
    fit = pipeline._within_memory(config, options, device="cpu", ranks=Ranks())
    assert fit["memory"]["budget_bytes"] == bytes_of(budget)
    assert fit.keys() - config.keys() == {"memory"}
    return fit["training"] | {"expected": fit["memory"]["expected_bytes"] // MIB}


@pytest.mark.usefixtures("rehearsal")
@pytest.mark.parametrize(
    ("budget", "accumulate", "checkpointing", "expected"),
    [
        ("1GiB", 1, False, 260),
        ("250MiB", 2, False, 180),
        ("170MiB", 4, False, 140),
        ("150MiB", 4, True, 120),
    ],
)
def test_the_training_is_made_to_fit(
    budget: str, accumulate: int, *, checkpointing: bool, expected: int
) -> None:
    training = fitted(budget)
    assert training["accumulate"] == accumulate
    assert training["gradient_checkpointing"] is checkpointing
    assert training["expected"] == expected
    assert training["optimizer"] == "muon"
    assert training["mixed_precision"] == "no"


def test_options_that_were_given_are_kept(rehearsal: type[FakeRehearsal]) -> None:
    given = {"accumulate": 1, "optimizer": "adam", "gradient_checkpointing": True}
    with pytest.raises(UsageError, match=r"16 needs about 214 MiB with everything"):
        fitted("200MiB", **given)
    assert rehearsal.asked == [Means("adam", True)]
    training = fitted("214MiB", **given)
    assert {name: training[name] for name in given} == given


def test_a_run_keeps_what_was_picked_and_does_not_plan_again(
    root: Path, rehearsal: type[FakeRehearsal], capfd: pytest.CaptureFixture[str]
) -> None:
    config = train(root, max_memory="250MiB", quiet=False)
    assert config["training"]["accumulate"] == 2
    assert (
        "--max-memory 250MiB: parts of 8 (--accumulate 2); about 180 MiB expected"
        in capfd.readouterr().err.splitlines()
    )
    (root / "run" / checkpoints.STATE).unlink()  # not finished
    rehearsal.asked.clear()
    assert train(root, max_memory="250MiB") == train(root) == config
    assert rehearsal.asked == []


@pytest.mark.usefixtures("rehearsal")
def test_where_nothing_fits_it_says_what_would_and_leaves_no_trace(root: Path) -> None:
    with pytest.raises(UsageError) as error:
        train(root, max_memory="100MiB")
    assert str(error.value) == (
        "--max-memory 100MiB: 32x32 in batches of 16 needs about 148 MiB with everything that "
        "saves memory; give --max-memory 148MiB or a smaller --size"
    )
    assert [path.name for path in root.iterdir()] == ["clips"]
    assert fitted("148MiB")["gradient_checkpointing"]


def test_a_size_that_means_nothing_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"^--max-memory 2G: expected a number"):
        train(root, max_memory="2G")


# -- measuring -----------------------------------------------------------------------------------


def footprint(meter: FakeMeter, *, largest: int, budget: int) -> Footprint:
    training = TrainConfig(steps=1, batch_size=64)

    def level(batch_size: int) -> FrameLevel:
        return FrameLevel(frame_game(), RandomFrames(32, 32), batch_size=batch_size, seed=0)

    measured = memory_probe._Rehearsal(training, "cpu", meter, level)
    return measured.footprint(largest=largest, beside=1, budget=budget)


def test_the_line_goes_through_the_smallest_and_the_largest_part() -> None:
    meter = FakeMeter(1000, 50, 1200, 60, 1700, 70, 2600, 80)
    found = footprint(meter, largest=64, budget=1 << 40)
    assert found == Footprint((4, 1001), (32, 2601), floor=50)


def test_no_larger_part_is_measured_than_there_is_or_fits() -> None:
    assert footprint(FakeMeter(1000, 50, 1200, 60), largest=8, budget=1 << 40) == Footprint(
        (4, 1001), (8, 1201), floor=50
    )
    found = footprint(FakeMeter(8 * MIB, 50), largest=64, budget=1)
    assert found.high == (4, 8 * MIB + 1)
    assert found.low[0] == 0  # what is held anyhow: gradients, moments
    assert found.at(8) > found.at(4)


def test_a_rehearsal_is_update_0_and_is_not_counted(tmp_path: Path) -> None:
    level = FrameLevel(frame_game(), RandomFrames(32, 32), batch_size=8, seed=0)
    before = {name: value.clone() for name, value in level.game.state_dict().items()}
    trainer = Trainer(level, tmp_path, config=TrainConfig(steps=9, batch_size=8))
    trainer.rehearse()
    assert trainer.step == 0
    moved = [
        name for name, value in level.game.state_dict().items() if (value != before[name]).any()
    ]
    assert moved


@says_memory
def test_what_is_held_and_what_was_held() -> None:
    meter = MainMemory()
    before = meter.now()
    block = torch.ones(64 * MIB, dtype=torch.uint8)
    assert meter.now() >= before + 60 * MIB
    del block
    assert meter.peak() >= before + 60 * MIB
    meter.reset()
    assert meter.peak() < before + 60 * MIB


@says_memory
def test_measuring_changes_nothing_of_the_training(root: Path) -> None:
    config = train(root, max_memory="64GiB")
    assert config["training"]["accumulate"] == 1
    assert 0 < config["memory"]["expected_bytes"] < config["memory"]["budget_bytes"]
    train(root, "usual")
    prints = {checkpoints.fingerprint_of(root / name) for name in ("run", "usual")}
    assert len(prints) == 1


def test_where_the_system_does_not_say_or_several_train_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(meter: MainMemory) -> None:
        raise FileNotFoundError

    with pytest.raises(UsageError, match=r"expected --device cpu or cuda, got mps"):
        memory_probe._meter("mps", Ranks())
    with pytest.raises(UsageError, match=r"it measures one process, these are 2"):
        memory_probe._meter("cpu", Ranks(0, 2))
    monkeypatch.setattr(MainMemory, "reset", missing)
    with pytest.raises(UsageError, match=r"on a CPU it needs Linux"):
        memory_probe._meter("cpu", Ranks())


# -- holding to it -------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "workers"), [(50, 1), (250, 2), (9999, 8)])
def test_so_many_processes_read_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, room: int, workers: int
) -> None:
    monkeypatch.setattr(memory_probe, "MainMemory", FakeMeter)
    monkeypatch.setattr(memory_probe, "num_cores", lambda: 8)
    budget = 100 + room * MIB
    assert stay_inside({"memory": {"budget_bytes": budget}}, "cpu") == workers
    assert stay_inside({}, "cpu") is None


def test_a_gpu_gives_no_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 4 << 30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    assert stay_inside({"memory": {"budget_bytes": 1 << 30}}, "cuda") is None
    assert stay_inside({"memory": {"budget_bytes": 8 << 30}}, "cuda") is None
    assert shares == [0.25, 1.0]
