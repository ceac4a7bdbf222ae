"""Peak memory and time of `evaluate --segments` against the length of the videos, in one run.

    python scripts/benchmarks/bench_drift.py clips/paper/test --top-model pacman-32

Judges the same number of clips of short and of long videos of a top model, every call in a process
of its own, and prints the ratios: of memory it should be 1, of time at most that of the lengths.
Memory is what `bench_memory.py` says of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench_tools import MIB, peak_bytes


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path, help="real clips")
    parser.add_argument("--top-model", default="pacman-32")
    parser.add_argument("--lengths", type=int, nargs=2, default=(1000, 10_000), metavar="FRAMES")
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--num-videos", type=int, default=8)
    parser.add_argument("--num-clips", type=int, default=80, help="in each segment")
    arguments = parser.parse_args()
    measured = []
    for length in arguments.lengths:
        command = ["evaluate", "--quiet", "--device", "cpu", "--seed", 0, "--length", length]
        command += ["--real", arguments.real, "--top-model", arguments.top_model]
        command += ["--segments", arguments.segments, "--num-videos", arguments.num_videos]
        command += ["--num-clips", arguments.num_clips]
        line = [sys.executable, "-m", "ldf_video", *map(str, command)]
        started = time.monotonic()
        peak = peak_bytes(line, directory=Path.cwd()).own
        measured.append((peak, time.monotonic() - started))
        print(f"{length:,} frames: {peak / MIB:.0f} MiB, {measured[-1][1]:.0f} s", flush=True)
    (peak, seconds), (long_peak, long_seconds) = measured
    print(f"memory {long_peak / peak:.2f}, time {long_seconds / seconds:.2f} times as much")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
