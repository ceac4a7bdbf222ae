"""--max-memory: what a training takes, measured on a few updates of its own before it starts.

Updates of small parts are done here, in the process that will train, with its networks, losses,
optimizer and loop, on random frames and in a directory that is thrown away. So whatever the
process holds counts: Python, torch, weights, scratch of convolutions, gaps in the heap.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ldf_video.errors import UsageError
from ldf_video.levels import memory_plan
from ldf_video.levels.memory_plan import MIB, Footprint, Means, Plan, told, with_spare
from ldf_video.runs.devices import MAX_WORKERS, num_cores
from ldf_video.training.config import TrainConfig
from ldf_video.training.loop import Trainer
from ldf_video.training.optim import state_bytes
from ldf_video.training.ranks import Ranks
from ldf_video.training.update import Level

PARTS = {"cpu": (4, 8, 16, 32), "cuda": (4, 16, 64, 128)}
"""Frames of a part that are measured, as far as a budget lets them.

A GPU's memory is reserved in pieces of up to 20 MiB, so that small parts say little of large ones.
"""
READER_BYTES = 100 * MIB
"""Of a process that reads clips: 55 MiB were measured, more for large pictures."""

MakeLevel = Callable[[int], Level]
"""A level on random frames, from a batch size."""


class Meter(Protocol):
    """Says what memory is in use."""

    def now(self) -> int:
        """Bytes that are held."""
        ...

    def reset(self) -> None:
        """Forget the peak so far."""

    def peak(self) -> int:
        """The most bytes that were held since."""
        ...


class MainMemory:
    """What this process holds beside pages of mapped files: RssAnon + RssShmem (Linux)."""

    def __init__(self) -> None:
        """Raises: UsageError: the system does not say."""
        try:
            self.reset()
        except OSError:
            raise UsageError(
                "--max-memory: on a CPU it needs Linux with /proc/self/clear_refs; give "
                "--accumulate and --gradient-checkpointing instead"
            ) from None

    def now(self) -> int:
        held = _status()
        return held["RssAnon"] + held["RssShmem"]

    def reset(self) -> None:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's: give back what is free
        if trim is not None:
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now

    def peak(self) -> int:
        held = _status()
        return held["VmHWM"] - held["RssFile"]


class DeviceMemory:
    """What torch has reserved on the GPU, the context of CUDA aside."""

    def now(self) -> int:
        return torch.cuda.memory_reserved()

    def reset(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return torch.cuda.max_memory_reserved()


def _status() -> dict[str, int]:
    """Bytes by name, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    named = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): 1024 * int(value) for name, value, _ in named}


class RandomFrames:
    """Frames of noise, as a store gives frames."""

    num_frames = 64

    def __init__(self, height: int, width: int) -> None:
        shape = (self.num_frames, height, width, 3)
        self._frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def frames_at(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Frames (N, H, W, 3)."""
        return self._frames[numbers]


def fit_memory(
    config: dict[str, Any],
    options: dict[str, Any],
    *,
    device: str,
    ranks: Ranks,
    fewest: int,
    make_level: MakeLevel,
) -> dict[str, Any]:
    """A fresh run's config whose training stays inside the budget of `--max-memory`.

    Args:
        config: as it is without a budget; its "training" is what changes.
        options: that were given; they are kept.
        device: that it is for.
        ranks: the processes that train together.
        fewest: frames that a part of a batch has at least.
        make_level: what is trained, on random frames.

    Returns:
        The config, with "memory": the budget and the peak that is expected, in bytes.

    Raises:
        UsageError: nothing fits, or there is no measuring here.
    """
    budget = memory_plan.bytes_of(options["max_memory"])
    meter = _meter(device, ranks)
    training = TrainConfig(**config["training"])
    frames = config["frames"]
    size = f"{frames['width']}x{frames['height']}"
    batch_bytes = training.batch_size * 4 * 3 * frames["width"] * frames["height"]
    sizes = memory_plan.part_sizes(
        training.batch_size, fewest=fewest, accumulate=options.get("accumulate")
    )

    def measure(means: Means) -> tuple[Footprint, int]:
        rehearsal = _Rehearsal(replace(training, **asdict(means)), device, meter, make_level)
        found = rehearsal.footprint(largest=sizes[0], beside=batch_bytes, budget=budget)
        return found, rehearsal.held

    plan, needed = memory_plan.choose(
        memory_plan.all_means(
            optimizer=training.optimizer,
            fixed="optimizer" in options,
            gradient_checkpointing=training.gradient_checkpointing,
            has_adam8bit=importlib.util.find_spec("bitsandbytes") is not None,
        ),
        sizes,
        batch_size=training.batch_size,
        budget=budget,
        device=device,
        measure=measure,
    )
    if plan is None:
        least = told(needed)
        raise UsageError(
            f"--max-memory {options['max_memory']}: {size} in batches of {training.batch_size} "
            f"needs about {least} with everything that saves memory; give --max-memory "
            f"{least.replace(' ', '')} or a smaller --size"
        )
    training = replace(training, accumulate=plan.accumulate, **asdict(plan.means))
    memory = {"budget_bytes": budget, "expected_bytes": plan.expected_bytes}
    return config | {"training": asdict(training), "memory": memory}


def _meter(device: str, ranks: Ranks) -> Meter:
    """Raises: UsageError: there is none for the device, or several processes share a machine."""
    if ranks.count > 1:
        raise UsageError(
            f"--max-memory: it measures one process, these are {ranks.count}; give --accumulate "
            "and --gradient-checkpointing instead"
        )
    if device not in memory_plan.PART_FRAMES:
        raise UsageError(f"--max-memory: expected --device cpu or cuda, got {device}")
    return DeviceMemory() if device == "cuda" else MainMemory()


class _Rehearsal:
    """One way of training, tried with small parts."""

    def __init__(
        self, training: TrainConfig, device: str, meter: Meter, make_level: MakeLevel
    ) -> None:
        self._training, self._device = training, device
        self._meter, self._make_level = meter, make_level
        self.held = 0

    def footprint(self, *, largest: int, beside: int, budget: int) -> Footprint:
        """Measure parts that grow, until there are enough or the next would not fit.

        Args:
            largest: frames at once that are asked about.
            beside: bytes to add to every peak.
            budget: in bytes, which measuring stays inside.
        """
        found: Footprint | None = None
        for number in PARTS[self._device]:
            if found and (found.high[0] >= largest or with_spare(found.at(number)) > budget):
                break
            empty, update, look = self._peaks(number)
            self.held = max(self.held, update, look)
            point = (number, update + beside)
            if found is None:
                found = Footprint((0, empty + beside), point, floor=look)
            else:
                first = found.high if found.low[0] == 0 else found.low
                found = replace(found, low=first, high=point)
        assert found is not None
        return found

    def _peaks(self, frames: int) -> tuple[int, int, int]:
        """Bytes that are held in an update anyhow, at most with two such parts, and looking."""
        config = replace(self._training, batch_size=2 * frames, accumulate=2)
        meter = self._meter
        meter.reset()
        with tempfile.TemporaryDirectory() as name:
            level = self._make_level(config.batch_size)
            trainer = Trainer(level, Path(name), config=config, device=self._device)
            empty = meter.now()
            trainer.rehearse()
            empty += _gradients_and_moments(trainer)
            trainer.rehearse()  # now with the optimizers' state there from the beginning
            update = meter.peak()
            meter.reset()
            trainer.look()
            look = meter.peak()
        del level, trainer
        meter.reset()
        return empty, update, look


def _gradients_and_moments(trainer: Trainer) -> int:
    """Bytes of what an update makes and keeps."""
    gradients = [p.grad for p in trainer.level.game.parameters() if p.grad is not None]
    return sum(g.numel() * g.element_size() for g in gradients) + sum(
        state_bytes(optimizer.optimizer) for optimizer in trainer.optimizers
    )


def plan_line(config: dict[str, Any]) -> str:
    """What was picked for a run with a budget, in a line."""
    training = TrainConfig(**config["training"])
    means = Means(training.optimizer, training.gradient_checkpointing)
    plan = Plan(means, training.accumulate, config["memory"]["expected_bytes"])
    asked = config["options"]["max_memory"]
    return memory_plan.line(asked, plan, batch_size=training.batch_size)


def stay_inside(config: dict[str, Any], device: str) -> int | None:
    """Hold a process to its run's budget, if it has one.

    On a GPU torch refuses to take more. On a CPU fewer processes read.

    Returns:
        How many may read; None: as many as without a budget.
    """
    if "memory" not in config:
        return None
    budget = config["memory"]["budget_bytes"]
    if device == "cuda":
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget / total))
        return None
    room = (budget - MainMemory().now()) // READER_BYTES
    return max(1, min(room, num_cores(), MAX_WORKERS))
