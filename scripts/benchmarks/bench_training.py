"""Peak memory and time an update of train-frame with each option that saves memory, in one run.

    python scripts/benchmarks/bench_training.py
    python scripts/benchmarks/bench_training.py --batch-size 128 --only 3 4 5

Every row is a process of its own that trains on random frames for a few updates. Memory is RssAnon
+ RssShmem, sampled every 10 ms (Linux only); on a GPU the most that torch had allocated is
printed beside it. Times are means over the updates after the first four, whole rounds of lazy
penalties; D plays from the first update, as in the second half of a training. Ratios are to the
first row.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from bench_tools import MIB, RandomFrames, resident_bytes, timed_training

from ldf_video.levels.frame_level import FrameLevel
from ldf_video.models import build
from ldf_video.training.config import TrainConfig
from ldf_video.training.optim import state_bytes

ROWS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "--optimizer adam": {"optimizer": "adam"},
    "--optimizer adam8bit": {"optimizer": "adam8bit"},
    "--gradient-checkpointing": {"gradient_checkpointing": True},
    "--accumulate 4": {"accumulate": 4},
    "--accumulate 8": {"accumulate": 8},
    "--accumulate 2 --gradient-checkpointing": {"accumulate": 2, "gradient_checkpointing": True},
    "--mixed-precision bf16": {"mixed_precision": "bf16"},
    "--mixed-precision fp16": {"mixed_precision": "fp16"},
    "all but fp16": {
        "optimizer": "adam8bit",
        "gradient_checkpointing": True,
        "accumulate": 4,
        "mixed_precision": "bf16",
    },
}


def child(options: argparse.Namespace) -> None:
    """Train with one row's options and print what it took."""
    model, game = build.frame_settings(options.preset, height=options.size, width=options.size)
    if "game_start" in game:
        game["game_start"] = 0.0
    torch.manual_seed(0)
    level = FrameLevel(
        build.frame_game(model, game),
        RandomFrames(options.size),
        batch_size=options.batch_size,
        seed=0,
    )
    usual = {"optimizer": "muon", "learning_rate": 3e-4}
    if options.preset == "paper":
        usual["optimizer"] = "adam"
    config = TrainConfig(
        steps=options.steps, batch_size=options.batch_size, **(usual | ROWS[options.child])
    )
    trainer, starts = timed_training(
        level, config, device=options.device, waits=range(options.steps)
    )
    seconds = np.diff(starts)[4:]
    print(
        json.dumps(
            {
                "seconds": float(seconds.mean()),
                "state_bytes": sum(state_bytes(o.optimizer) for o in trainer.optimizers),
                "parameters": sum(p.numel() for p in level.game.parameters()),
                "gpu_bytes": torch.cuda.max_memory_allocated() if options.device == "cuda" else 0,
            }
        )
    )


def measure(row: str, arguments: list[str]) -> dict[str, Any]:
    """Run one row in a process of its own."""
    command = [sys.executable, __file__, *arguments, f"--child={row}"]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid).own)
            time.sleep(0.01)
        assert process.stdout is not None
        output = process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"peak_bytes": peak, **json.loads(output.splitlines()[-1])}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="default", choices=build.PRESETS)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", type=int, nargs="+", help="numbers of rows, from 0")
    parser.add_argument("--child", choices=tuple(ROWS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options)
        return 0
    first: dict[str, Any] = {}
    print("| option | peak MiB | ratio | GPU MiB | s an update | ratio | state bytes a parameter |")
    print("|---|---|---|---|---|---|---|")
    rows = list(ROWS.items())
    for row, chosen in rows if options.only is None else [rows[n] for n in options.only]:
        if "fp16" in chosen.values() and options.device == "cpu":
            continue
        found = measure(row, sys.argv[1:])
        first = first or found
        print(
            f"| {row} | {found['peak_bytes'] / MIB:.0f} "
            f"| {found['peak_bytes'] / first['peak_bytes']:.2f} "
            f"| {found['gpu_bytes'] / MIB:.0f} | {found['seconds']:.2f} "
            f"| {found['seconds'] / first['seconds']:.2f} "
            f"| {found['state_bytes'] / found['parameters']:.2f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
