"""--max-memory: what a training does to stay inside a budget. Arithmetic; nothing is measured here.

What an update takes grows in a line with the frames that are computed at once: what is held anyhow
(Python, torch, weights, gradients, moments, averages) and so many bytes a frame (what autograd
keeps, and the largest temporaries beside it). `memory_probe` measures points of these lines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ldf_video.errors import UsageError

MIB = 1 << 20
UNITS = {"MiB": MIB, "GiB": 1 << 30, "MB": 10**6, "GB": 10**9}

SPARE_SHARE, SPARE_BYTES = 0.1, 16 * MIB
"""Kept free of a budget: how far extrapolated peaks were off, and what comes beside the updates."""
CHECKPOINTING_COST = 4 / 3
"""Arithmetic with gradient checkpointing, at most: the forward pass, a third of all, twice."""
PART_FRAMES = {"cpu": 1, "cuda": 128}
"""What each further part of a batch costs, as the time of so many frames.

Measured on a CPU: parts of 4 take 1.3 times as long as the whole, parts of 8 1.2 times. An H100
took as long for 128 frames as for 512 (32 x 32, eager): the time went into launching kernels.
"""


@dataclass(frozen=True)
class Means:
    """One way of training that takes less memory than another.

    Attributes:
        optimizer: "muon", "adam" or "adam8bit".
        gradient_checkpointing: compute inner results twice instead of keeping them.
    """

    optimizer: str
    gradient_checkpointing: bool


@dataclass(frozen=True)
class Plan:
    """What was picked, and what it should take.

    Attributes:
        means: how updates are computed.
        accumulate: parts that a batch is cut in.
        expected_bytes: peak of the training.
    """

    means: Means
    accumulate: int
    expected_bytes: int


@dataclass(frozen=True)
class Footprint:
    """Peaks of one way of training: a line through two points, at so many frames so many bytes.

    Attributes:
        low: the first point.
        high: the second one, at more frames.
        floor: bytes that it takes beside its updates (batch statistics, pictures), whatever those.
    """

    low: tuple[int, int]
    high: tuple[int, int]
    floor: int = 0

    def at(self, frames: int) -> int:
        """Peak in bytes with so many frames at once."""
        (few, low), (many, high) = self.low, self.high
        return max(low + round((frames - few) * (high - low) / (many - few)), self.floor)


def with_spare(peak: int) -> int:
    """The least budget for a peak, in bytes."""
    return round((1 + SPARE_SHARE) * peak) + SPARE_BYTES


def bytes_of(text: str) -> int:
    """A size as `--max-memory` takes it.

    Raises:
        UsageError: it has no unit, another one, or is nothing.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text)
    size = float(match[1]) * UNITS.get(match[2], 0) if match else 0
    if size < 1:
        raise UsageError(
            f"--max-memory {text}: expected a number with {', '.join(UNITS)}, such as 2GiB"
        )
    return int(size)


def told(num_bytes: float) -> str:
    """A size for people, never less than it is: `1.6 GiB`, `900 MiB`."""
    mib = -int(-num_bytes // MIB)
    return f"{-(-10 * mib // 1024) / 10:.1f} GiB" if mib >= 1024 else f"{mib} MiB"


def all_means(
    *, optimizer: str, fixed: bool, gradient_checkpointing: bool, has_adam8bit: bool
) -> list[Means]:
    """Every way of training that the given options leave, the plainest first.

    Args:
        optimizer: of the training as it is.
        fixed: whether it was asked for; it is kept then.
        gradient_checkpointing: whether it was asked for; it is kept then.
        has_adam8bit: whether that can be had.
    """
    known = [optimizer] if fixed or not has_adam8bit else [optimizer, "adam8bit"]
    options = [True] if gradient_checkpointing else [False, True]
    return [Means(name, checkpointing) for name in known for checkpointing in options]


def part_sizes(batch_size: int, *, fewest: int, accumulate: int | None) -> list[int]:
    """Frames that can be computed at once, the most first; the one of `accumulate` where given."""
    if accumulate is not None:
        return [batch_size // accumulate]
    counts = range(1, batch_size // fewest + 1)
    return [batch_size // count for count in counts if batch_size % count == 0]


def choose(
    means: Sequence[Means],
    sizes: Sequence[int],
    *,
    batch_size: int,
    budget: int,
    device: str,
    measure: Callable[[Means], tuple[Footprint, int]],
) -> tuple[Plan | None, int]:
    """The quickest way of training whose peak stays inside a budget.

    Another optimizer comes last whatever its time: it alone makes another training.

    Args:
        means: ways of training, the plainest first.
        sizes: frames computed at once, the most first.
        batch_size: frames an update.
        budget: in bytes.
        device: "cpu" or "cuda".
        measure: what a way of training takes, and the most that was held while measuring; asked
            only where nothing quicker fits.

    Returns:
        The plan, None where nothing fits; the smallest budget that was seen to do.
    """

    def cost(choice: tuple[Means, int]) -> tuple[bool, float]:
        way, size = choice
        arithmetic = CHECKPOINTING_COST if way.gradient_checkpointing else 1.0
        changed = way.optimizer != means[0].optimizer
        return changed, arithmetic * (1 + PART_FRAMES[device] / size)

    footprints: dict[Means, Footprint] = {}
    held, least = 0, math.inf
    for way, size in sorted(((w, s) for w in means for s in sizes), key=cost):
        if way not in footprints:
            footprints[way], most = measure(way)
            held = max(held, most)
        peak = footprints[way].at(size)
        least = min(least, with_spare(peak))
        if max(with_spare(peak), held) <= budget:
            return Plan(way, batch_size // size, peak), with_spare(peak)
    return None, max(int(least), held)  # measuring must not take more than a budget either


def line(asked: str, plan: Plan, *, batch_size: int) -> str:
    """What was picked, in a line."""
    picked = []
    if plan.accumulate > 1:
        picked.append(f"parts of {batch_size // plan.accumulate} (--accumulate {plan.accumulate})")
    if plan.means.gradient_checkpointing:
        picked.append("--gradient-checkpointing")
    if plan.means.optimizer == "adam8bit":
        picked.append("--optimizer adam8bit")
    chosen = ", ".join(picked) or "the whole batch at once"
    return f"--max-memory {asked}: {chosen}; about {told(plan.expected_bytes)} expected"
