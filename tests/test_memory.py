"""--max-memory: measured before a training, kept by what goes on; and memory that runs out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_cli import shrink
from tiny_models import make_frames
from tiny_trainings import training_of

import ldf_video
from ldf_video.api import train_frame
from ldf_video.errors import LdfError, UsageError
from ldf_video.levels import memory
from ldf_video.levels.frame_level import frame_run_config
from ldf_video.levels.memory import (
    MIB,
    Footprint,
    MainMemory,
    bytes_of,
    format_bytes,
    measure_footprint,
    plan_line,
    stay_inside,
    ways_to_train,
)
from ldf_video.options.trainings import TrainFrame
from ldf_video.runs.command import out_of_memory
from ldf_video.runs.run import kept_options
from ldf_video.training import checkpoints
from ldf_video.training.config import TrainConfig
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


# -- sizes and lines -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        ("2GiB", 2 << 30, "2.0 GiB"),
        ("900MiB", 900 << 20, "900 MiB"),
        ("2GB", 2 * 10**9, "1.9 GiB"),
        ("1.5GiB", 3 << 29, "1.5 GiB"),
        ("1200 MB", 1_200_000_000, "1.2 GiB"),
        ("901 MB", 901_000_000, "860 MiB"),
    ],
)
def test_a_size_has_a_unit_and_is_said_rounded_up(text: str, size: int, said: str) -> None:
    assert bytes_of(text) == size
    assert format_bytes(size) == said
    assert bytes_of(said) >= size


@pytest.mark.parametrize(
    "text", ["2", "2G", "2gib", "GiB", "-1GiB", "0GiB", "1e3MiB", "1,5GiB", "", "2GiB!", "nanGiB"]
)
def test_another_size_is_refused(root: Path, text: str) -> None:
    with pytest.raises(UsageError) as error:
        train(root, max_memory=text)
    assert str(error.value) == (
        f"--max-memory {text}: expected a number with MiB, GiB, MB, GB, such as 2GiB"
    )


def test_peaks_lie_on_a_line_above_a_floor() -> None:
    found = Footprint((4, 140), (8, 180), floor=170)
    assert [found.at(frames) for frames in (4, 8, 16)] == [170, 180, 260]


# -- what is tried, in which order ---------------------------------------------------------------


def ways(
    monkeypatch: pytest.MonkeyPatch, *, device: str = "cpu", has_adam8bit: bool = True, **given: Any
) -> list[tuple[str, bool, int]]:
    """Optimizer, checkpointing and parts of each way, for batches of 12."""
    monkeypatch.setattr(
        memory.importlib.util, "find_spec", lambda name: name if has_adam8bit else None
    )
    training = training_of(**{"steps": 1, "batch_size": 12, "optimizer": "muon"} | given)
    found = ways_to_train(training, given, device=device)
    return [(way.optimizer, way.gradient_checkpointing, way.accumulate) for way in found]


def test_parts_come_first_then_checkpointing_then_another_optimizer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    muon = [("muon", twice, parts) for twice in (False, True) for parts in (1, 2, 3)]
    adam = [("adam8bit", twice, parts) for _, twice, parts in muon]
    assert ways(monkeypatch) == muon + adam
    assert ways(monkeypatch, has_adam8bit=False) == muon
    # A small part takes a GPU as long as a large one.
    on_gpu = [("muon", twice, parts) for parts in (1, 2, 3) for twice in (False, True)]
    assert ways(monkeypatch, device="cuda")[:6] == on_gpu
    assert ways(monkeypatch, device="cuda")[6][0] == "adam8bit"
    # Given options leave less to choose from; a part has four frames or more.
    assert ways(monkeypatch, optimizer="muon") == muon
    assert ways(monkeypatch, accumulate=3, optimizer="adam8bit", gradient_checkpointing=True) == [
        ("adam8bit", True, 3)
    ]
    assert [parts for *_, parts in ways(monkeypatch, batch_size=7, optimizer="adam")] == [1, 1]
    parts = [parts for _, twice, parts in ways(monkeypatch, batch_size=48) if not twice]
    assert parts[:7] == [1, 2, 3, 4, 6, 8, 12]


class FakeMeter:
    """Holds 100 bytes, whatever is done."""

    def now(self) -> int:
        return 100

    def reset(self) -> None:
        """Nothing."""

    def peak(self) -> int:
        return 100


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What is measured: 100 MiB and 10 MiB a frame; half as much a frame with checkpointing."""
    asked: list[tuple[str, bool]] = []

    def peaks(config: Any, training: TrainConfig, *others: Any) -> tuple[int, int, int]:
        asked.append((training.optimizer, training.gradient_checkpointing))
        frame = (5 if training.gradient_checkpointing else 10) * MIB
        size = others[-1]
        return 100 * MIB - BESIDE, 100 * MIB + size * frame - BESIDE, 0

    monkeypatch.setattr(memory, "_peaks", peaks)
    monkeypatch.setattr(memory, "MainMemory", FakeMeter)
    monkeypatch.setattr(memory, "PARTS", {"cpu": (4,)})
    return asked


# -- what is chosen ------------------------------------------------------------------------------

BESIDE = 16 * 4 * 3 * 32 * 32
"""Bytes of a batch."""


def fitted(budget: str, **given: Any) -> dict[str, Any]:
    """The "training" of a run's config, and the peak that is expected."""
    asked = {"steps": 2, "batch_size": 16, "seed": 1, "max_memory": budget} | given
    options = TrainFrame("clips", **asked)
    config = frame_run_config(options, device="cpu", ranks=Ranks())
    fit = memory.fit_memory(config, kept_options(options), device="cpu", ranks=Ranks())
    assert fit["memory"]["budget_bytes"] == bytes_of(budget)
    assert fit.keys() - config.keys() == {"memory"}
    return fit["training"] | {"expected": fit["memory"]["expected_bytes"] // MIB}


@pytest.mark.usefixtures("measured")
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


def test_options_that_were_given_are_kept(measured: list[tuple[str, bool]]) -> None:
    given = {"accumulate": 1, "optimizer": "adam", "gradient_checkpointing": True}
    with pytest.raises(UsageError, match=r"16 needs about 214 MiB with everything"):
        fitted("200MiB", **given)
    assert measured == [("adam", True)]
    training = fitted("214MiB", **given)
    assert {name: training[name] for name in given} == given


def test_a_run_keeps_what_was_picked_and_does_not_plan_again(
    root: Path, measured: list[tuple[str, bool]], capfd: pytest.CaptureFixture[str]
) -> None:
    config = train(root, max_memory="250MiB", quiet=False)
    assert config["training"]["accumulate"] == 2
    assert (
        "--max-memory 250MiB: parts of 8 (--accumulate 2); about 180 MiB expected"
        in capfd.readouterr().err.splitlines()
    )
    (root / "run" / checkpoints.STATE).unlink()  # not finished
    measured.clear()
    assert train(root, max_memory="250MiB") == train(root) == config
    assert measured == []


@pytest.mark.usefixtures("measured")
def test_where_nothing_fits_it_says_what_would_and_leaves_no_trace(root: Path) -> None:
    with pytest.raises(UsageError) as error:
        train(root, max_memory="100MiB")
    assert str(error.value) == (
        "--max-memory 100MiB: 32x32 in batches of 16 needs about 148 MiB with everything that "
        "saves memory; give --max-memory 148MiB or a smaller --size"
    )
    assert [path.name for path in root.iterdir()] == ["clips"]
    assert fitted("148MiB")["gradient_checkpointing"]


@pytest.mark.usefixtures("measured")
def test_what_measuring_held_must_fit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PARTS", {"cpu": (4, 8)})
    peaks = {4: 140 * MIB, 8: 400 * MIB}
    monkeypatch.setattr(memory, "_peaks", lambda *others: (130 * MIB, peaks[others[-1]], 0))
    with pytest.raises(UsageError, match="16 needs about 400 MiB with everything"):
        fitted("250MiB", optimizer="muon")
    assert fitted("400MiB", optimizer="muon")["accumulate"] == 4


@pytest.mark.parametrize(
    ("training", "chosen"),
    [
        ({}, "the whole batch at once"),
        (
            {"accumulate": 4, "gradient_checkpointing": True, "optimizer": "adam8bit"},
            "parts of 16 (--accumulate 4), --gradient-checkpointing, --optimizer adam8bit",
        ),
    ],
)
def test_what_was_chosen_is_said_in_a_line(training: dict[str, Any], chosen: str) -> None:
    config = {
        "training": asdict(training_of(**{"steps": 1, "batch_size": 64} | training)),
        "options": {"max_memory": "2GiB"},
        "memory": {"expected_bytes": 900 * MIB},
    }
    assert plan_line(config) == f"--max-memory 2GiB: {chosen}; about 900 MiB expected"


# -- measuring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peaks", "largest", "budget", "expected"),
    [
        (
            [(1000, 50), (1200, 60), (1700, 70), (2600, 80)],
            64,
            1 << 40,
            Footprint((4, 1012), (32, 2612), floor=50, held=2600),
        ),
        ([(1000, 50), (1200, 1260)], 8, 1 << 40, Footprint((4, 1012), (8, 1212), 50, 1260)),
        ([(8 * MIB, 50)], 64, 1, Footprint((0, 112), (4, 8 * MIB + 12), 50, 8 * MIB)),
    ],
    ids=["the smallest and the largest part", "no larger than there is", "nor than fits"],
)
def test_the_line_goes_through(
    monkeypatch: pytest.MonkeyPatch,
    peaks: list[tuple[int, int]],
    largest: int,
    budget: int,
    expected: Footprint,
) -> None:
    measured = iter(peaks)  # of updates, and of looking
    monkeypatch.setattr(memory, "_peaks", lambda *others: (100, *next(measured)))
    config, way = {"frames": {"width": 1, "height": 1}}, training_of(steps=1, batch_size=1)
    options = {"largest": largest, "budget": budget}
    found = measure_footprint(config, way, MainMemory(), "cpu", **options)
    assert found == expected
    assert next(measured, None) is None


@says_memory
def test_what_is_held_and_what_was_held() -> None:
    meter = MainMemory()
    meter.reset()  # else what earlier tests left may be freed meanwhile
    before = meter.now()
    block = torch.ones(64 * MIB, dtype=torch.uint8)
    assert meter.now() >= before + 60 * MIB
    del block
    assert meter.peak() >= before + 60 * MIB
    meter.reset()
    assert meter.peak() < before + 60 * MIB


@says_memory
def test_measuring_changes_nothing_of_the_training(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PARTS", {"cpu": (4, 8)})
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
        memory._meter("mps", Ranks())
    with pytest.raises(UsageError, match=r"it measures one process, these are 2"):
        memory._meter("cpu", Ranks(0, 2))
    monkeypatch.setattr(MainMemory, "reset", missing)
    with pytest.raises(UsageError, match=r"on a CPU it needs Linux"):
        memory._meter("cpu", Ranks())


# -- holding to it -------------------------------------------------------------------------------


@pytest.mark.parametrize(("room", "workers"), [(50, 1), (250, 2), (9999, 8)])
def test_so_many_processes_read_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, room: int, workers: int
) -> None:
    monkeypatch.setattr(memory, "MainMemory", FakeMeter)
    monkeypatch.setattr(memory, "num_cores", lambda: 8)
    budget = 100 + room * MIB
    with stay_inside({"memory": {"budget_bytes": budget}}, "cpu") as found:
        assert found == workers
    with stay_inside({}, "cpu") as found:
        assert found is None


@pytest.mark.parametrize("own", [None, 0.5])
def test_a_gpu_gives_no_more_than_the_budget_and_then_as_before(
    monkeypatch: pytest.MonkeyPatch, own: float | None
) -> None:
    """`own` is what the caller had allowed, None where torch does not say."""
    shares: list[float] = [own or 1.0]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 4 << 30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    name = "get_per_process_memory_fraction"
    if own is None:
        monkeypatch.delattr(torch.cuda, name, raising=False)
    else:
        monkeypatch.setattr(torch.cuda, name, lambda: shares[-1], raising=False)
    with suppress(LdfError), stay_inside({"memory": {"budget_bytes": 1 << 30}}, "cuda"):
        assert shares[1:] == [0.25]
        raise LdfError("out of memory")
    with stay_inside({}, "cuda"):
        assert shares[2:] == [shares[0]]
    with stay_inside({"memory": {"budget_bytes": 8 << 30}}, "cuda"):
        assert shares[-1] == shares[0]  # never more than before


# -- memory that runs out ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 2 TiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_memory_that_runs_out_is_one_line_on_any_device(error: Exception) -> None:
    with (
        pytest.raises(LdfError, match=r"^out of memory: .+; try less$"),
        out_of_memory("less"),
    ):
        raise error
    with pytest.raises(RuntimeError, match="another"), out_of_memory("less"):
        raise RuntimeError("another")


@pytest.mark.parametrize(
    ("module", "option", "name", "remedy"),
    [
        ("generate", "out", "load_sampler", "fewer --num-videos or --frames, or -o DIRECTORY"),
        ("evaluate", "real", "find_sources", "a smaller --num-clips or --size"),
        ("reconstruct", "clips", "find_sources", "--device cpu, a smaller --upscale"),
        ("info", "path", "shipped_models", "a machine that has more"),
        ("play", "out", "load_sampler", "--device cpu"),
        ("export", "out", "load_sampler", "a machine that has more"),
    ],
)
def test_every_command_says_what_to_lower_where_memory_runs_out(
    module: str, option: str, name: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError("Unable to allocate 5 TiB")

    monkeypatch.setattr(f"ldf_video.recipes.{module}.{name}", fail)
    with pytest.raises(LdfError, match=f"^out of memory: Unable to allocate 5 TiB; try {remedy}"):
        getattr(ldf_video, module)(**{option: "nothing"})
