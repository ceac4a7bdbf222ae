"""What a block of a video costs: passes of the top model, the past, decoding.

    python scripts/benchmarks/bench_blocks.py [MODEL...] [--blocks 30]

Seconds of processor time on one thread, so that a busy neighbour hardly counts; the best of three.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice

import torch

from ldf_video.models.rollout import Rollout
from ldf_video.runs.zoo import find_model, frame_model_of, load_top_model

WARM = 5
"""Blocks before those that are timed: the window is full then."""


def seconds(work: Callable[[], object], *, times: int = 3) -> float:
    """The best of some runs."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["pacman-32"])
    parser.add_argument("--blocks", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.models:
        directory, _ = find_model(name, "top")
        top = load_top_model(directory, device="cpu")
        frame = frame_model_of(top.config, beside=directory, device="cpu").model
        block = top.model.config.block
        ends = (WARM * block, (WARM + arguments.blocks) * block)

        def roll(frames: int) -> None:
            for _ in top.model.sample(Rollout(frames), [torch.Generator().manual_seed(0)]):  # noqa: B023
                pass

        short, long = (seconds(lambda: roll(frames)) for frames in ends)  # noqa: B023
        made = top.model.sample(Rollout(16), [torch.Generator()])
        latents = torch.cat([*islice(made, 4)], dim=1)[0]
        with torch.inference_mode():
            decoding = seconds(lambda: frame.decode(latents), times=9) * block / 16  # noqa: B023
            alone = seconds(lambda: frame.generator(latents), times=9) * block / 16  # noqa: B023
        print(
            f"{name}: a block of {block} frames: top model "
            f"{1000 * (long - short) / arguments.blocks:.1f} ms, "
            f"decode {1000 * decoding:.1f} ms, G alone {1000 * alone:.1f} ms"
        )


if __name__ == "__main__":
    main()
