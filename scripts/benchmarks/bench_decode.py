"""Frames a second that a frame model's G decodes, on the CPU, batch after batch.

    python scripts/benchmarks/bench_decode.py pacman-32 [--threads 2] [--seconds 10]

Latents are random; what they are does not change the time. Pixels are made too (uint8).
"""

from __future__ import annotations

import argparse
import time

import torch

from ldf_video.runs.zoo import find_model, load_frame_model
from ldf_video.video.pixels import from_model

BATCH = 64


@torch.inference_mode()
def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a directory or a shipped name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_frame_model(find_model(options.model, "frame")[0], device="cpu").model
    z = torch.randn((BATCH, *model.config.latent_shape), generator=torch.Generator().manual_seed(0))
    from_model(model.generator(z))  # the first is slower
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < options.seconds:
        from_model(model.generator(z))
        count += BATCH
    print(f"{count / (time.perf_counter() - began):,.0f} frames/s by {options.threads} threads")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
