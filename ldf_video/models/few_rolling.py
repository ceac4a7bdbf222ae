"""What a student of few passes rolls forward while it learns: windows on its own past."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldf_video.models.condition import Condition
from ldf_video.models.flow_layers import KeysValues
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.game import Noise
from ldf_video.models.gan import Turn
from ldf_video.models.solvers import renew


@dataclass(frozen=True)
class Rolling(Turn):
    """What happens in an update: the critic's part, and what is rolled forward.

    Attributes:
        from_nothing: videos begin without a past; else after a block of real frames.
        depth: blocks that are rolled before those that are judged.
        first_pass: number of a first block's pass whose guess is judged, too, or None.
    """

    from_nothing: bool
    depth: int
    first_pass: int | None = None


def roll(
    student: FlowNetwork,
    past: Tensor,
    condition: Condition | None = None,
    *,
    noise: Noise,
    turn: Rolling,
    blocks: int,
) -> Tensor:
    """Windows (B, blocks, block, size) on a student's own past.

    A gradient leads to the weights that made a block and its past's keys and values, and to no
    block before it.

    Args:
        student: of few passes.
        past: a block of real frames, (B, 1, block, size).
        condition: what the student is told of the window that is judged.
        noise: source of chance.
        turn: whether to begin without that, and how many blocks go unjudged.
        blocks: of a window. Where something stands before them the first of them is given.
    """
    b = past.shape[0]
    made = [] if turn.from_nothing else [past[:, 0]]
    seen: KeysValues | None = None
    total = turn.depth + blocks
    given = total - blocks + (1 if turn.depth or not turn.from_nothing else 0)
    block = student.config.block
    for number in range(total):
        # Blocks that are not judged are told what those of the window are.
        place = number - turn.depth if number >= turn.depth else number % blocks
        told = None if condition is None else condition.frames(place * block, block)
        with torch.set_grad_enabled(torch.is_grad_enabled() and number >= given):
            if number == len(made):
                made.append(next_block(student, seen, b, noise, told))
        with torch.set_grad_enabled(torch.is_grad_enabled() and number + 1 >= given):
            if number + 1 < total:
                seen = student.remember_block(made[number].detach(), seen, told)
    return torch.stack(made[-blocks:], dim=1)


def next_block(
    student: FlowNetwork,
    seen: KeysValues | None,
    b: int,
    noise: Noise,
    condition: Condition | None = None,
    *,
    passes: int | None = None,
) -> Tensor:
    """One block as the sampler makes it, or its guess after some passes.

    Only the last pass has a gradient.
    """
    c = student.config
    all_levels = student.sampling_levels(c.first_steps if seen is None else c.sampling_steps)
    levels = [*all_levels[:-1][:passes], 0.0]

    def velocity(x: Tensor, level: float) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and level == levels[-2]):
            noisy = x.new_full((1, 1), level)
            return student.velocity(x, noisy, condition=condition, past=seen)

    return renew(lambda: student.noise_of_blocks(b, 1, noise)[:, 0], levels, velocity)
