"""--max-memory: a training that stays inside a budget, found by a few updates of its own.

Before a training starts, updates on small parts are done here, in the process that will train, with
its networks, losses, optimizer and loop, on random frames and in a directory that is thrown away.
So everything that the process holds counts, gaps in the heap too. The peak grows in a line with the
frames that are computed at once, so a few measured sizes give the others.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import UsageError
from ldf_video.levels.frame_level import FEWEST_FRAMES, FrameLevel
from ldf_video.models import build
from ldf_video.runs.command import MAX_WORKERS, num_cores
from ldf_video.runs.run import Settings
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.optim import state_bytes
from ldf_video.training.ranks import Ranks

MIB = 1 << 20
UNITS = {"MiB": MIB, "GiB": 1 << 30, "MB": 10**6, "GB": 10**9}
SPARE_SHARE, SPARE_BYTES = 0.1, 16 * MIB
"""Part of a budget that stays free: extrapolated peaks were off by up to so much."""
PARTS = {"cpu": (4, 8, 16, 32), "cuda": (4, 16, 64, 128)}
"""Frames of a part that are measured, as far as a budget lets them.

A GPU's memory is reserved in pieces of up to 20 MiB, so small parts say little of large ones.
"""
READER_BYTES = 100 * MIB
"""Memory of a process that reads clips: 55 MiB were measured, more for large pictures."""


class MainMemory:
    """What this process holds beside pages of mapped files: RssAnon + RssShmem (Linux)."""

    def now(self) -> int:
        """Bytes that are held."""
        held = self._status()
        return held["RssAnon"] + held["RssShmem"]

    def reset(self) -> None:
        """Give back what is free, and forget the peak so far."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now

    def peak(self) -> int:
        """The most bytes that were held since the reset."""
        held = self._status()
        return held["VmHWM"] - held["RssFile"]

    def _status(self) -> dict[str, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        named = (line.split() for line in lines if line.endswith(" kB"))
        return {name.rstrip(":"): 1024 * int(value) for name, value, _ in named}


class DeviceMemory:
    """The same of what torch has reserved on the GPU, the context of CUDA aside."""

    def now(self) -> int:
        return torch.cuda.memory_reserved()

    def reset(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return torch.cuda.max_memory_reserved()


Meter = MainMemory | DeviceMemory


class RandomFrames:
    """Frames of noise."""

    num_frames = 64

    def __init__(self, height: int, width: int) -> None:
        rng, shape = np.random.default_rng(0), (self.num_frames, height, width, 3)
        self._frames = rng.integers(0, 256, shape, dtype=np.uint8)

    def frames_at(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._frames[numbers]


@dataclass(frozen=True)
class Footprint:
    """Peaks of updates as a line through two points, `low` and `high`: frames at once, and bytes.

    A training takes `floor` at least, however few frames; measuring held `held` at most.
    """

    low: tuple[int, int]
    high: tuple[int, int]
    floor: int = 0
    held: int = 0

    def at(self, frames: int) -> int:
        """Peak in bytes with so many frames at once."""
        (few, low), (many, high) = self.low, self.high
        return max(low + round((frames - few) * (high - low) / (many - few)), self.floor)

    def budget(self, frames: int) -> int:
        """The least budget for so many frames at once, in bytes."""
        return round((1 + SPARE_SHARE) * self.at(frames)) + SPARE_BYTES


def bytes_of(text: str) -> int:
    """A size as `--max-memory` takes it; a UsageError where it has no unit or is nothing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text)
    size = float(match[1]) * UNITS.get(match[2], 0) if match else 0
    if size < 1:
        raise UsageError(
            f"--max-memory {text}: expected a number with {', '.join(UNITS)}, such as 2GiB"
        )
    return int(size)


def format_bytes(num_bytes: float) -> str:
    """A size for people, rounded up: `1.6 GiB`, `900 MiB`."""
    mib = -int(-num_bytes // MIB)
    return f"{-(-10 * mib // 1024) / 10:.1f} GiB" if mib >= 1024 else f"{mib} MiB"


def fit_memory(
    config: Settings, options: Mapping[str, Any], *, device: str, ranks: Ranks
) -> Settings:
    """A fresh run's config whose training stays inside the budget of `--max-memory`.

    Args:
        config: of a frame model, as it is without a budget; its "training" is what changes.
        options: that were given; they are kept.
        device: that it is for.
        ranks: the processes that train together.

    Returns:
        The config, with "memory": the budget and the peak that is expected, in bytes.

    Raises:
        UsageError: nothing fits, or there is no measuring here.
    """
    budget = bytes_of(options["max_memory"])
    meter = _meter(device, ranks)
    training = TrainConfig(**config["training"])
    width, height = config["frames"]["width"], config["frames"]["height"]
    choices = ways_to_train(training, options, device=device)
    footprints: dict[tuple[str, bool], Footprint] = {}  # measured only where needed
    least, held = math.inf, 0
    for choice in choices:
        way = choice.optimizer, choice.gradient_checkpointing
        if way not in footprints:
            largest = training.batch_size // choices[0].accumulate
            footprints[way] = measure_footprint(
                config, choice, meter, device, largest=largest, budget=budget
            )
            held = max(held, footprints[way].held)
        frames = choice.batch_size // choice.accumulate
        if max(footprints[way].budget(frames), held) <= budget:
            memory = {"budget_bytes": budget, "expected_bytes": footprints[way].at(frames)}
            return config | {"training": asdict(choice), "memory": memory}
        least = min(least, footprints[way].budget(frames))
    needed = format_bytes(max(least, held))  # measuring must not take more than a budget either
    raise UsageError(
        f"--max-memory {options['max_memory']}: {width}x{height} in batches of "
        f"{training.batch_size} needs about {needed} with everything that saves memory; give "
        f"--max-memory {needed.replace(' ', '')} or a smaller --size"
    )


def ways_to_train(
    training: TrainConfig, options: Mapping[str, Any], *, device: str
) -> list[TrainConfig]:
    """What `--max-memory` may choose from, in the order in which it is tried; given options stay.

    First the batch is cut into ever more parts, then inner results are computed twice (gradient
    checkpointing), last comes 8-bit Adam, which alone makes another training. A GPU takes as long
    for a small part as for a large one, so there checkpointing comes before more parts.
    """
    size = training.batch_size
    numbers = [n for n in range(1, size // FEWEST_FRAMES + 1) if size % n == 0]
    if "accumulate" in options:
        numbers = [options["accumulate"]]
    optimizers = [training.optimizer]
    if "optimizer" not in options and importlib.util.find_spec("bitsandbytes") is not None:
        optimizers.append("adam8bit")
    choices = [
        replace(training, accumulate=number, gradient_checkpointing=twice, optimizer=optimizer)
        for optimizer in optimizers
        for twice in ([True] if training.gradient_checkpointing else [False, True])
        for number in numbers
    ]
    if device == "cuda":
        choices.sort(key=lambda way: (optimizers.index(way.optimizer), way.accumulate))
    return choices


def measure_footprint(
    config: Settings, way: TrainConfig, meter: Meter, device: str, *, largest: int, budget: int
) -> Footprint:
    """Measure parts of growing sizes, until one is the largest or the next would not fit."""
    beside = way.batch_size * 4 * 3 * config["frames"]["width"] * config["frames"]["height"]
    found: Footprint | None = None
    for size in PARTS[device]:
        if found and (found.high[0] >= largest or found.budget(size) > budget):
            break
        between, update, look = _peaks(config, way, meter, device, size)
        low, floor, held = (0, between + beside), look, 0
        if found:
            low = found.low if found.low[0] else found.high
            floor, held = found.floor, found.held
        found = Footprint(low, (size, update + beside), floor, max(held, update, look))
    assert found is not None
    return found


def _peaks(
    config: Settings, way: TrainConfig, meter: Meter, device: str, frames: int
) -> tuple[int, int, int]:
    """Train for a moment, on random frames, with so many of them at once.

    Returns:
        Bytes that were held between updates, at most in one, and at most where the model was looked
        at (measured on other data and drawn).
    """
    training = replace(way, batch_size=2 * frames, accumulate=2)
    meter.reset()
    with tempfile.TemporaryDirectory() as name:
        game = build.frame_game(config["model"], config["game"])
        data = RandomFrames(config["frames"]["height"], config["frames"]["width"])
        level = FrameLevel(game, data, batch_size=2 * frames, seed=0, resident_share=0.0)
        trainer = Trainer(level, Path(name), config=training, device=device)
        between = meter.now()
        trainer.rehearse()
        gradients = [p.grad for p in game.parameters() if p.grad is not None]
        between += sum(g.numel() * g.element_size() for g in gradients)
        between += sum(state_bytes(optimizer.optimizer) for optimizer in trainer.optimizers)
        del gradients
        trainer.rehearse()  # now with the optimizers' state there from the beginning
        update = meter.peak()
        meter.reset()
        trainer.look()
        look = meter.peak()
    del game, level, trainer
    meter.reset()
    return between, update, look


def _meter(device: str, ranks: Ranks) -> Meter:
    """What measures a device, with a UsageError where nothing does."""
    if ranks.count > 1:
        raise UsageError(
            f"--max-memory: it measures one process, these are {ranks.count}; give --accumulate "
            "and --gradient-checkpointing instead"
        )
    if device not in PARTS:
        raise UsageError(f"--max-memory: expected --device cpu or cuda, got {device}")
    meter: Meter = DeviceMemory() if device == "cuda" else MainMemory()
    try:
        meter.reset()
    except OSError:
        raise UsageError(
            "--max-memory: on a CPU it needs Linux with /proc/self/clear_refs; give "
            "--accumulate and --gradient-checkpointing instead"
        ) from None
    return meter


def plan_line(config: Mapping[str, Any]) -> str:
    """What was chosen for a run with a budget, in a line."""
    training, chosen = TrainConfig(**config["training"]), []
    if training.accumulate > 1:
        size = training.batch_size // training.accumulate
        chosen.append(f"parts of {size} (--accumulate {training.accumulate})")
    if training.gradient_checkpointing:
        chosen.append("--gradient-checkpointing")
    if training.optimizer == "adam8bit":
        chosen.append("--optimizer adam8bit")
    return (
        f"--max-memory {config['options']['max_memory']}: "
        f"{', '.join(chosen) or 'the whole batch at once'}; "
        f"about {format_bytes(config['memory']['expected_bytes'])} expected"
    )


@contextmanager
def stay_inside(config: Mapping[str, Any], device: str) -> Iterator[int | None]:
    """Hold a process to its run's budget, if it has one, for a block.

    On a GPU torch refuses to take more. On a CPU fewer processes read.

    Yields:
        How many may read; None: as many as without a budget.
    """
    if "memory" not in config:
        yield None
        return
    budget = config["memory"]["budget_bytes"]
    if device != "cuda":
        room = (budget - _meter("cpu", Ranks()).now()) // READER_BYTES
        yield max(1, min(room, num_cores(), MAX_WORKERS))
        return
    # Before torch 2.8 nobody can tell what a caller allows.
    known = getattr(torch.cuda, "get_per_process_memory_fraction", lambda: 1.0)
    share = known()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(share, budget / total))
    try:
        yield None
    finally:  # what the process does next has its own budget, or none
        torch.cuda.set_per_process_memory_fraction(share)
