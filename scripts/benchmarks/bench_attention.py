"""Half precision on a CPU: attention by torch beside the written-out one, and a flow's updates.

    OMP_NUM_THREADS=1 python scripts/benchmarks/bench_attention.py

Prints, for batches as a flow's training has them, milliseconds of the processor for forward and
backward pass by `F.scaled_dot_product_attention` and by `flow_layers.attention`, and their ratio.
The shapes are those of `pacman-32-flow` in batches of 64 windows, of the same flow where it keeps
its past, and of one with blocks of 1 frame. Then the same for forward and backward pass of the
whole flow, in float32 and in bf16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from ldf_video.models.flow_layers import attention
from ldf_video.models.flow_loss import velocity_loss
from ldf_video.models.flow_network import FlowNetwork
from ldf_video.models.game import Noise
from ldf_video.runs.zoo import find_model, load_top_model

SHAPES = {"windows": (64, 64, 64), "blocks of 4": (256, 16, 64), "blocks of 1": (1024, 4, 64)}
"""(rows, queries, keys) of 4 heads of 48."""
ROUNDS = 5


def milliseconds(work: Callable[[], Tensor]) -> float:
    """Of the processor for forward and backward pass, the least of some rounds."""
    times = []
    for _ in range(1 + ROUNDS):
        begun = time.process_time()
        work().backward()
        times.append(1000 * (time.process_time() - begun))
    return min(times[1:])


def of_attention(
    attend: Callable[..., Tensor], shape: tuple[int, int, int], kind: torch.dtype
) -> float:
    """Milliseconds of one way in one precision."""
    rows, queries, keys = shape
    q = torch.randn(rows, 4, queries, 48, dtype=kind, requires_grad=True)
    k, v = (torch.randn(rows, 4, keys, 48, dtype=kind, requires_grad=True) for _ in range(2))
    mask = torch.rand(rows, 1, queries, keys) < 0.8
    return milliseconds(lambda: attend(q, k, v, mask).sum())


def of_flow(flow: FlowNetwork, kind: torch.dtype) -> float:
    """Milliseconds of an update's two passes in one precision."""
    latents = torch.randn(64, flow.config.window, *flow.config.latent_shape)
    mask = torch.ones(latents.shape[:2], dtype=torch.bool)

    def work() -> Tensor:
        with torch.autocast("cpu", kind) if kind == torch.bfloat16 else nullcontext():
            return velocity_loss(flow, latents, mask, noise=Noise(0))[0]

    return milliseconds(work)


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'':14}{'':>10}{'torch, ms':>11}{'written, ms':>13}{'ratio':>8}")
    for name, shape in SHAPES.items():
        for kind in (torch.float32, torch.bfloat16):
            own = of_attention(F.scaled_dot_product_attention, shape, kind)
            written = of_attention(attention, shape, kind)
            row = f"{own:11.1f}{written:13.1f}{own / written:8.2f}"
            print(f"{name:14}{str(kind).removeprefix('torch.'):>10}{row}")
    directory, _ = find_model("pacman-32-flow", "top")
    flow = load_top_model(directory, device="cpu").model.requires_grad_(True).train()
    assert isinstance(flow, FlowNetwork)
    full, half = (of_flow(flow, kind) for kind in (torch.float32, torch.bfloat16))
    print(f"the flow: float32 {full:.0f} ms, bf16 {half:.0f} ms, {half / full:.2f} of it")


if __name__ == "__main__":
    main()
