"""Images a second of train-frame's updates, two ways in turns.

    git worktree add ../first f745980
    python scripts/benchmarks/bench_updates.py --against ../first   # another checkout, on the CPU
    python scripts/benchmarks/bench_updates.py --eager --width 64 --steps 400   # on a GPU

Each round trains the same network (grid 4 x 4 x 4 in cells of 8 pixels, as the first version's; the
linear map and Muon where a checkout has them) in a process of its own, once by each way, and prints
images a second and their ratio: with the code of another checkout and with this one's, or, on a
GPU, launching every kernel and playing recorded updates back. There D plays from the first update,
by all its losses, and the regularizer is in it. Else the updates are spread over a whole training,
so that what joins late takes its share. The first updates, in which libraries choose their kernels
and recordings are made, are not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_tools import RandomFrames, alone, timed_training

from ldf_video.models import build
from ldf_video.models.grid import GridConfig
from ldf_video.training.config import TrainConfig

try:
    from ldf_video.recipes.train_frame import FrameLevel
    from ldf_video.training.optim import OPTIMIZERS
except ImportError:  # a checkout before 2026-11-28
    from ldf_video.pipelines.train_frame import FrameLevel
    from ldf_video.training.optimizers import OPTIMIZERS

NETWORK = {"height": 32, "width": 32, "latent_channels": 4, "depth": 2}
LATER = {"stride": 8, "linear": True}
"""What the first version's networks do not name: cells of 8 pixels, always, and no linear map."""
WARM_UP = {"cpu": 4, "cuda": 60}
"""Updates that are not counted: on a GPU all kinds of update are recorded in the first ones."""


def child(options: argparse.Namespace) -> None:
    """Train with the code that Python finds and print images a second."""
    device, more = options.device, {}
    network: dict[str, Any] = NETWORK | {"base_width": options.width}
    known = {field.name for field in fields(GridConfig)}
    network |= {name: value for name, value in LATER.items() if name in known}
    _, game = build.frame_settings("default", height=32, width=32)
    if device == "cuda":
        network["critic_width"] = options.width
        game |= {"game_start": 0.0, "rest": 0.0}  # D plays throughout: on noise it wins
    torch.manual_seed(0)
    level = FrameLevel(
        build.frame_game(network, game), RandomFrames(32), batch_size=options.batch_size, seed=0
    )
    precision = "bf16" if device == "cuda" else "no"
    config = TrainConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        mixed_precision=precision,
        learning_rate=3e-4,
        optimizer="muon" if "muon" in OPTIMIZERS else "adam",
    )
    if device == "cuda" and options.way == "recorded":
        from ldf_video.training.graphs import CudaGraphs  # the first version has none

        more["recorder"] = CudaGraphs()
    warm_up = WARM_UP[device]
    trainer, starts = timed_training(
        level, config, device=device, waits=range(warm_up, warm_up + 1), **more
    )
    if "recorder" in more and trainer.recordings.trouble:
        raise SystemExit(trainer.recordings.trouble)
    if device == "cuda":
        torch.cuda.synchronize()
        starts.append(time.perf_counter())
    counted = starts[warm_up:]
    print(options.batch_size * (len(counted) - 1) / (counted[-1] - counted[0]))


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--against", type=Path, help="another checkout of ldf-video")
    ways.add_argument("--eager", action="store_true", help="on a GPU, without recordings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--way", default="recorded", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = "cuda" if options.eager else "cpu"
    if options.steps <= WARM_UP[options.device] + 1:
        parser.error(f"--steps {options.steps}: expected more than {WARM_UP[options.device] + 1}")
    if options.child:
        child(options)
        return 0
    if options.eager and not torch.cuda.is_available():
        parser.error("--eager: expected a CUDA device, this machine has none")
    here, ratios = Path(__file__).parents[2], []
    other = here if options.eager else options.against
    for number in range(options.rounds):
        before, now = (
            alone(__file__, *sys.argv[1:], "--child", "--way", way, checkout=checkout)
            for checkout, way in ((other, "eager"), (here, "recorded"))
        )
        ratios.append(now / before)
        print(f"round {number + 1}: {before:.1f} and {now:.1f} images/s, {ratios[-1]:.2f} times")
    print(f"median: {median(ratios):.2f} times")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
