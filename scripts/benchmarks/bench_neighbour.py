"""How much of its speed a command keeps beside one busy process.

    python scripts/benchmarks/bench_neighbour.py
    python scripts/benchmarks/bench_neighbour.py --against ../first   # another checkout, in turn

Each round runs `generate`, `encode`, `train-frame` and `train-top`, alone and then beside a process
that does nothing but count, each time in a process of its own, and prints frames or updates a
second. What comes before the first frame or update is not counted. The clips are made: squares that
move. A round takes some four minutes on two cores, twice that with another checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[2]
UNITS = {
    "generate": "frames/s",
    "encode": "frames/s",
    "train-frame": "updates/s",
    "train-top": "updates/s",
}
ENCODED_TIMES = 10
"""So often `encode` is given the same clips."""


@contextmanager
def busy_neighbour(*, wanted: bool) -> Iterator[None]:
    """A process that keeps a core busy meanwhile."""
    if not wanted:
        yield
        return
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def make_clips(path: Path) -> None:
    """Arrays of forty clips of 32 frames, and of many: a square that moves over a plain ground."""
    chance = np.random.default_rng(0)
    clips = np.empty((40, 32, 32, 32, 3), np.uint8)
    for clip in clips:
        clip[:] = chance.integers(0, 128, 3, dtype=np.uint8)
        (row, column), colour = chance.integers(0, 24, 2), chance.integers(128, 256, 3)
        steps = chance.integers(-2, 3, 2)
        for number, frame in enumerate(clip):
            top, left = (np.array([row, column]) + number * steps) % 24
            frame[top : top + 8, left : left + 8] = colour
    np.save(path / "clips.npy", clips)
    np.save(path / "long.npy", np.tile(clips, (ENCODED_TIMES, 1, 1, 1, 1)))


def run(checkout: Path, folder: Path, *arguments: str) -> float:
    """Seconds that a command of a checkout takes."""
    paths = [str(checkout.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    started = time.perf_counter()
    command = [sys.executable, "-P", "-m", "ldf_video", *arguments]
    command += ["--quiet", "--device", "cpu"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def generated(checkout: Path, folder: Path, *, frames: int) -> float:
    """Frames a second of one video of the shipped pair."""
    short, long = (
        run(checkout, folder, "generate", "--frames", str(count), "--seed", "0", "--out", "out.mp4")
        for count in (16, 16 + frames)
    )
    return frames / (long - short)


def encoded(checkout: Path, folder: Path) -> float:
    """Frames a second of the shipped E."""
    number, length = np.load(folder / "clips.npy", mmap_mode="r").shape[:2]
    seconds = {}
    for name in ("clips", "long"):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            to = ["--frame-model", "pacman-32", "--out", f"{out}/latents"]
            seconds[name] = run(checkout, folder, "encode", f"{name}.npy", *to)
    return (ENCODED_TIMES - 1) * number * length / (seconds["long"] - seconds["clips"])


def trained(checkout: Path, folder: Path, job: str, *, minutes: float) -> float:
    """Updates a second of a training, from the first line of its metrics to the last."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        source = ["train-frame", "clips.npy"] if job == "train-frame" else ["train-top"]
        budget = [
            "--minutes",
            str(minutes),
            "--batch-size",
            "8",
            "--seed",
            "0",
            "--out",
            f"{out}/run",
        ]
        run(checkout, folder, *source, *budget)
        known = map(json.loads, Path(out, "run/metrics.jsonl").read_text().splitlines())
        lines = [line for line in known if "progress" in line]
    if len(lines) < 2:
        raise SystemExit(f"--minutes {minutes}: expected more, {job} reported {len(lines)} times")
    first, *_, last = lines
    return (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])


def measure(checkout: Path, folder: Path, job: str, options: argparse.Namespace) -> float:
    """Frames or updates a second of one job."""
    if job == "generate":
        return generated(checkout, folder, frames=options.frames)
    if job == "encode":
        return encoded(checkout, folder)
    return trained(checkout, folder, job, minutes=options.minutes)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout of ldf-video")
    parser.add_argument("--jobs", nargs="+", choices=UNITS, default=list(UNITS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1000, help="of the video")
    parser.add_argument("--minutes", type=float, default=0.7, help="of each training")
    options = parser.parse_args()
    checkouts = {"this": HERE} | ({"other": options.against} if options.against else {})
    speeds: dict[tuple[str, str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder)
        run(HERE, folder, "encode", "clips.npy", "--frame-model", "pacman-32", "--out", "latents")
        for _ in range(options.rounds):
            for job in options.jobs:
                for busy in (False, True):
                    for which, checkout in checkouts.items():
                        with busy_neighbour(wanted=busy):
                            speed = measure(checkout, folder, job, options)
                        speeds.setdefault((job, which, busy), []).append(speed)
    for job in options.jobs:
        for which in checkouts:
            alone, beside = (statistics.median(speeds[job, which, busy]) for busy in (False, True))
            print(
                f"{job}, {which} checkout: {alone:.1f} {UNITS[job]} alone, {beside:.1f} beside a "
                f"busy process, {beside / alone:.2f}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
