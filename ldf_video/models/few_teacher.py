"""What a student of few passes learns from its teacher: where a path of many passes ends."""

from __future__ import annotations

import torch
from torch import Tensor

from ldf_video.models.condition import Condition
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.game import Noise
from ldf_video.models.solvers import integrate


def distances(
    student: FlowNetwork,
    teacher: FlowNetwork,
    x: Tensor,
    mask: Tensor,
    condition: Condition | None = None,
    *,
    noise: Noise,
) -> tuple[Tensor, Tensor]:
    """Squared distance of a student's guesses from the ends of the teacher's paths.

    Args:
        student: of few passes, for which its config says how many.
        teacher: a flow that keeps its past.
        x: real blocks, (B, blocks, block, size).
        mask: real frames, (B, blocks * block).
        condition: what both are told of them.
        noise: source of chance.

    Returns:
        That of first blocks and that of later ones, each a scalar: a sum over real frames,
        divided by all of the batch.
    """
    b, blocks, block, size = x.shape
    e = student.noise_of_blocks(b, blocks, noise)
    level = student.config.prefix_noise * noise.uniform(b, 1, 1, device=x.device)
    level = (level * noise.uniform(b, 1, 1, device=x.device)).expand(b, blocks, block)
    other = noise.normal(b, blocks, block, size, device=x.device)
    past = (1 - level.unsqueeze(-1)) * x + level.unsqueeze(-1) * other
    chance = noise.uniform(b, 2, device=x.device)
    real = mask.unflatten(1, (blocks, block))
    first, later = student.config.first_steps, student.config.sampling_steps
    whole = e, past, level, real
    of_first = _distance(
        *(part[:, :1] for part in whole),
        condition=None if condition is None else condition.frames(0, block),
        student=student,
        teacher=teacher,
        chance=chance[:, 0],
        passes=first,
    )
    of_all = _distance(
        *whole,
        condition=condition,
        student=student,
        teacher=teacher,
        chance=chance[:, 1],
        passes=later,
    )
    return of_first.mean(), of_all[:, 1:].mean()


def _distance(
    e: Tensor,
    past: Tensor,
    past_levels: Tensor,
    real: Tensor,
    *,
    condition: Condition | None,
    student: FlowNetwork,
    teacher: FlowNetwork,
    chance: Tensor,
    passes: int,
) -> Tensor:
    """Squared distances (B, blocks, block) of a pass's guesses, which pass by chance (B,)."""
    b, blocks, block, _ = e.shape
    mask = real.flatten(1)
    with torch.no_grad():
        on_path, end = paths(
            teacher, e, past, past_levels, mask, passes=passes, condition=condition
        )
    levels = torch.tensor(student.sampling_levels(passes)[:-1], device=e.device)
    number = (chance * passes).long()
    u = levels[number][:, None, None].expand(b, blocks, block)
    start = on_path[number, torch.arange(b, device=e.device)]
    after = student.after_blocks(past, past_levels, mask=mask, condition=condition)
    velocity = after(start, u)
    return (start + u.unsqueeze(-1) * velocity - end).square().mean(-1) * real


def paths(
    teacher: FlowNetwork,
    e: Tensor,
    past: Tensor,
    past_levels: Tensor,
    mask: Tensor,
    *,
    passes: int,
    condition: Condition | None = None,
) -> tuple[Tensor, Tensor]:
    """Where the teacher's paths pass, and where they end.

    Args:
        teacher: a flow that keeps its past.
        e: noise of blocks, (B, blocks, block, size).
        past: what later blocks see of each block, like `e`.
        past_levels: its noise, (B, blocks, block).
        mask: real frames, (B, blocks * block).
        passes: of the student.
        condition: what the teacher is told of the windows.

    Returns:
        What stands on each path at the student's levels, (passes, *e.shape), noise first; the end.
    """
    after = teacher.after_blocks(past, past_levels, mask=mask, condition=condition)

    def velocity(x: Tensor, level: float) -> Tensor:
        return after(x, x.new_full(x.shape[:-1], level))

    steps = teacher.config.first_steps if e.shape[1] == 1 else teacher.config.sampling_steps
    each = -(-steps // passes)  # of the teacher's, for one of the student's, rounded up
    levels = teacher.sampling_levels(each * passes)
    x, found = e, []
    for number in range(passes):
        found.append(x)
        x = integrate(x, levels[number * each : (number + 1) * each + 1], velocity)
    return torch.stack(found), x
