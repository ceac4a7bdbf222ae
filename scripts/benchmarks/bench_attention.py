"""Backward pass of attention in half precision on a CPU: torch's own beside the written-out one.

    OMP_NUM_THREADS=1 python scripts/benchmarks/bench_attention.py

Prints, for batches as a flow's training has them, milliseconds of the processor for forward and
backward pass by `F.scaled_dot_product_attention` and by `flow_layers.attention`, and their ratio.
The shapes are those of `pacman-32-flow` in batches of 64 windows, of the same flow where it keeps
its past, and of one with blocks of 1 frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ldf_video.models.flow_layers import attention

SHAPES = {"windows": (64, 64, 64), "blocks of 4": (256, 16, 64), "blocks of 1": (1024, 4, 64)}
"""(rows, queries, keys) of 4 heads of 48."""
ROUNDS = 5


def milliseconds(
    attend: Callable[..., Tensor], shape: tuple[int, int, int], kind: torch.dtype
) -> float:
    """Of forward and backward pass, the least of some rounds."""
    rows, queries, keys = shape
    q = torch.randn(rows, 4, queries, 48, dtype=kind, requires_grad=True)
    k, v = (torch.randn(rows, 4, keys, 48, dtype=kind, requires_grad=True) for _ in range(2))
    mask = torch.rand(rows, 1, queries, keys) < 0.8
    times = []
    for _ in range(1 + ROUNDS):
        begun = time.process_time()
        attend(q, k, v, mask).sum().backward()
        times.append(1000 * (time.process_time() - begun))
    return min(times[1:])


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'':14}{'':>10}{'torch, ms':>11}{'written, ms':>13}{'ratio':>8}")
    for name, shape in SHAPES.items():
        for kind in (torch.float32, torch.bfloat16):
            own = milliseconds(F.scaled_dot_product_attention, shape, kind)
            written = milliseconds(attention, shape, kind)
            row = f"{own:11.1f}{written:13.1f}{own / written:8.2f}"
            print(f"{name:14}{str(kind).removeprefix('torch.'):>10}{row}")


if __name__ == "__main__":
    main()
