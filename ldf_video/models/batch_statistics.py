"""Statistics of a batch that is split over processes: as of the whole batch, gradients too.

Where no processes were joined, everything here is the identity. A batch that is split to save
memory (`--accumulate`) has the statistics of each part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_apart = False


@contextmanager
def apart() -> Iterator[None]:
    """Within it a process is on its own: what one alone computes must not wait for the others."""
    global _apart  # noqa: PLW0603
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def joined() -> int:
    """The number of processes that share each batch."""
    if _apart:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: Tensor) -> Tensor:
    """Rows (B, ...) of all processes, in their order, (N B, ...).

    For statistics that every process computes alike from all rows: the gradient is that of the
    own rows times N, so that its mean over the processes is that of the statistic.
    """
    return x if joined() == 1 else _Gather.apply(x)  # type: ignore[no-untyped-call]


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a tensor of any one shape over all processes, with gradients to each."""
    return x if joined() == 1 else _Sum.apply(x) / joined()  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(joined())]
        dist.all_gather(parts, x.contiguous())
        ctx.size = len(x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        first = dist.get_rank() * ctx.size
        return gradients[0][first : first + ctx.size] * joined()


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
