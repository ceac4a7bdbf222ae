"""8-bit Adam against 32-bit Adam: the losses after equally many updates, in one run.

    python scripts/compare_optimizers.py clips/pacman/train

Trains a frame model on the clips twice, with the same seed and each optimizer, encodes the clips
with the first, and trains a top model twice. Prints, for the loss that each level is after, the
mean over the last fifth of the updates and the ratio of the two, and the bytes of optimizer state a
parameter.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ldf_video.training import checkpoints

OPTIMIZERS = ("adam", "adam8bit")
LARGE = 4096
"""Tensors of fewer numbers keep a 32-bit state."""


def command(*arguments: str, directory: Path) -> None:
    """Run ldf-video in a directory."""
    whole = [sys.executable, "-m", "ldf_video", *arguments, "--quiet"]
    subprocess.run(whole, cwd=directory, check=True, stdout=subprocess.DEVNULL)


def last_loss(run: Path, name: str) -> float:
    """Mean of a value of metrics.jsonl over the last fifth of the updates."""
    logged = [line.get(name) for line in checkpoints.read_metrics(run)]
    values = [value for value in logged if value is not None]
    return float(np.mean(values[-max(1, len(values) // 5) :]))


def bytes_a_parameter(run: Path) -> float:
    """State of the parameters that have more than a few numbers, bytes for each."""
    state = checkpoints.load_state(run)
    assert state is not None
    taken = numbers = 0
    for optimizer in state["optimizers"]:
        for slots in optimizer["state"].values():
            tensors = _tensors(slots)
            # Of an 8-bit state the first moment is a byte a number; of a 32-bit one four.
            size = max(t.numel() for t in tensors)
            if size >= LARGE:
                taken += sum(t.numel() * t.element_size() for t in tensors)
                numbers += size
    return taken / numbers


def _tensors(slots: Any) -> list[torch.Tensor]:
    if isinstance(slots, torch.Tensor):
        return [slots]
    if isinstance(slots, dict):
        return [tensor for value in slots.values() for tensor in _tensors(value)]
    return []


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frame-steps", type=int, default=300)
    parser.add_argument("--top-steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mixed-precision", default="auto")
    options = parser.parse_args()
    clips = str(options.clips.resolve())
    shared = ["--seed", "1", "--mixed-precision", options.mixed_precision]
    shared += ["--batch-size", str(options.batch_size)]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        frame = ["train-frame", clips, *shared, "--steps", str(options.frame_steps)]
        frame += ["--frames-store", "frames"]
        top = ["train-top", *shared, "--steps", str(options.top_steps)]
        for optimizer in OPTIMIZERS:
            command(
                *frame, "--out", f"frame-{optimizer}", "--optimizer", optimizer, directory=directory
            )
        command("encode", clips, "--frame-model", "frame-adam", directory=directory)
        for optimizer in OPTIMIZERS:
            command(
                *top, "--out", f"top-{optimizer}", "--optimizer", optimizer, directory=directory
            )
        for level, loss in (("frame", "pixels"), ("top", "velocity")):
            runs = [directory / f"{level}-{optimizer}" for optimizer in OPTIMIZERS]
            losses = [last_loss(run, loss) for run in runs]
            found[level] = {
                loss: dict(zip(OPTIMIZERS, [round(value, 5) for value in losses], strict=True)),
                "ratio": round(losses[1] / losses[0], 4),
                "state_bytes_a_parameter": [round(bytes_a_parameter(run), 3) for run in runs],
            }
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
