"""Frames a second and peak memory of `generate`, beside another build, in one run.

    python scripts/benchmarks/bench_generate.py --against CHECKOUT [--top-model DIR]
        [--frames 3000] [--num-videos 1] [--rounds 3] [--long 100000]

Runs the whole command in turns with the package of each checkout, on a CPU: the other one with its
own shipped pair, this one with `--top-model`, by default its shipped pair, too. Prints of each the
median seconds, frames a second with and without the start of the process, and peak memory; then the
ratios of the medians, and those of each round; then this build's peak memory for `--long` frames of
one video beside that for 500 (0 leaves it out).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench_tools import MIB

HERE = Path(__file__).resolve().parents[2]
SHORT, MEMORY_SHORT = 16, 500
QUIET = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Cost(NamedTuple):
    """Of a process."""

    seconds: float
    peak_bytes: int


def generate(checkout: Path, frames: int, *, num_videos: int, top_model: str | None) -> Cost:
    """Run the command once.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-P", "-m", "ldf_video", "generate", "--quiet", "--device", "cpu"]
    command += ["--seed", "0", "--frames", str(frames), "--num-videos", str(num_videos)]
    command += [] if top_model is None else ["--top-model", top_model]
    with tempfile.TemporaryDirectory() as folder:
        command += ["-o", str(Path(folder) / "out.mp4")]
        environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
        started = time.monotonic()
        process = os.posix_spawn(sys.executable, command, environment, file_actions=QUIET)
        _, status, usage = os.wait4(process, 0)
        seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    return Cost(seconds, RSS_UNIT * usage.ru_maxrss)


class Build(NamedTuple):
    """A checkout and the top model that it generates with."""

    name: str
    checkout: Path
    top_model: str | None

    def whole_and_start(self, frames: int, num_videos: int) -> tuple[Cost, float]:
        """The cost of all frames, and the seconds that a few take."""
        settings = {"num_videos": num_videos, "top_model": self.top_model}
        start = generate(self.checkout, SHORT, **settings)  # type: ignore[arg-type]
        return generate(self.checkout, frames, **settings), start.seconds  # type: ignore[arg-type]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Speed and memory of generate beside a build.")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--top-model", help="of this build; by default its shipped one")
    parser.add_argument("--frames", type=int, default=3000, help="of each video")
    parser.add_argument("--num-videos", type=int, default=1, help="in one file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=int, default=100_000, help="frames of the longest video")
    options = parser.parse_args()
    top_model = options.top_model
    if top_model is not None and Path(top_model).exists():
        top_model = str(Path(top_model).resolve())
    builds = [Build("this build", HERE, top_model)]
    if options.against:
        builds.append(Build(str(options.against), options.against, None))
    found: dict[str, list[tuple[Cost, float]]] = {build.name: [] for build in builds}
    for _ in range(options.rounds):
        for build in builds:
            found[build.name].append(build.whole_and_start(options.frames, options.num_videos))
    total, few = options.frames * options.num_videos, SHORT * options.num_videos
    for name, rounds in found.items():
        seconds = statistics.median(cost.seconds for cost, _ in rounds)
        steady = statistics.median(cost.seconds - start for cost, start in rounds)
        peak = statistics.median(cost.peak_bytes for cost, _ in rounds)
        print(
            f"{name}: {options.num_videos} x {options.frames:,} frames in {seconds:.1f} s, "
            f"{total / seconds:,.0f} frames/s, {(total - few) / steady:,.0f} after the start, "
            f"peak {peak / MIB:.0f} MiB"
        )
    if options.against:
        ours, theirs = found.values()
        pairs = list(zip(ours, theirs, strict=True))
        speeds = [other[0].seconds / own[0].seconds for own, other in pairs]
        memory = [own[0].peak_bytes / other[0].peak_bytes for own, other in pairs]
        of_rounds = ", ".join(f"{speed:.2f}" for speed in speeds)
        print(
            f"frames a second: {statistics.median(speeds):.2f} times as many ({of_rounds}); "
            f"peak memory: {statistics.median(memory):.2f} times as much"
        )
    if options.long:
        peaks = [
            generate(HERE, frames, num_videos=1, top_model=top_model).peak_bytes / MIB
            for frames in (MEMORY_SHORT, options.long)
        ]
        print(
            f"peak memory of {options.long:,} frames {peaks[1]:.0f} MiB, "
            f"of {MEMORY_SHORT} {peaks[0]:.0f} MiB: {peaks[1] - peaks[0]:+.0f} MiB"
        )


if __name__ == "__main__":
    main()
