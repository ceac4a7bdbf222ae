"""Images a second of train-frame's updates, of this checkout and of another one, in turns.

    git worktree add ../first f745980
    python scripts/bench_updates.py --against ../first

Each round trains the same network (grid 4 x 4 x 4 in cells of 8 pixels, width 48, as the first
version's) for some updates in a process of its own, once with the code of each checkout, and prints
images a second and their ratio. The updates are spread over a whole training, so that what joins
late takes its share. The first four are not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ldf_video.models import build
from ldf_video.models.grid import GridConfig
from ldf_video.pipelines.train_frame import FrameLevel
from ldf_video.progress import Progress
from ldf_video.training.config import Cadence, TrainConfig
from ldf_video.training.loop import Trainer

NETWORK = {"height": 32, "width": 32, "latent_channels": 4, "base_width": 48, "depth": 2}
WARM_UP = 4


class RandomFrames:
    """Frames as a store of them gives them."""

    num_frames = 1024

    def __init__(self) -> None:
        shape = (self.num_frames, 32, 32, 3)
        self._frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def frames_at(self, indices: np.ndarray) -> np.ndarray:
        """Frames (B, 32, 32, 3)."""
        return self._frames[indices]


def child(options: argparse.Namespace) -> None:
    """Train with the code that Python finds and print images a second."""
    network: dict[str, Any] = dict(NETWORK)
    if "stride" in {field.name for field in fields(GridConfig)}:  # else it is 8, always
        network["stride"] = 8
    _, game = build.frame_settings("default", height=32, width=32)
    torch.manual_seed(0)
    starts: list[float] = []

    class TimedLevel(FrameLevel):
        def batch(self, step: int, part: Any, device: torch.device) -> Any:
            starts.append(time.perf_counter())
            return super().batch(step, part, device)

    level = TimedLevel(
        build.frame_game(network, game), RandomFrames(), batch_size=options.batch_size, seed=0
    )
    config = TrainConfig(steps=options.steps, batch_size=options.batch_size)
    quiet = Cadence(save_seconds=1e9, sheet_seconds=1e9)
    with tempfile.TemporaryDirectory() as name:
        trainer = Trainer(level, Path(name), config=config, device="cpu", cadence=quiet)
        trainer.look = lambda: None  # type: ignore[method-assign]
        trainer.save = lambda done=False: None  # type: ignore[method-assign]
        trainer.run(Progress("bench", unit="steps", quiet=True))
    print(options.batch_size / np.diff(starts)[WARM_UP:].mean())


def measure(checkout: Path, arguments: list[str]) -> float:
    """Images a second with the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, __file__, *arguments, "--child"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout of ldf-video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.against is None:
        parser.error("--against: expected another checkout")
    here, ratios = Path(__file__).parents[1], []
    for number in range(options.rounds):
        before, now = (measure(tree, sys.argv[1:]) for tree in (options.against, here))
        ratios.append(now / before)
        print(f"round {number + 1}: {before:.1f} and {now:.1f} images/s, {ratios[-1]:.2f} times")
    print(f"median: {median(ratios):.2f} times")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
