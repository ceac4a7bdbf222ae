"""Whether `train-frame --max-memory` holds, seen from outside the process, in several settings.

    python scripts/benchmarks/bench_max_memory.py
    python scripts/benchmarks/bench_max_memory.py --steps 2 --only 0 1

Each row is the real command, from a made video to a finished checkpoint, in a process tree of its
own that is watched as `bench_memory.py` watches (RssAnon + RssShmem, Linux only): it measures,
plans, reads the clip with other processes, trains for a few updates, draws and saves. "expected" is
what the command expected, "peak" what it took. Exit 1 where a peak is above its budget.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_memory import make_video
from bench_tools import MIB, peak_bytes

from ldf_video.levels.memory import bytes_of

SETTINGS = [
    "--size 32 --batch-size 64 --max-memory 480MiB",
    "--size 32 --batch-size 64 --max-memory 1GiB",
    "--size 64 --batch-size 128 --max-memory 1.1GiB",
    "--size 64 --batch-size 64 --max-memory 2GB",
    "--size 64 --batch-size 64 --max-memory 900MiB --optimizer adam8bit --gradient-checkpointing",
    "--size 64 --batch-size 16 --max-memory 3GiB --preset paper",
    "--size 128 --batch-size 16 --max-memory 900MiB",
]


def check_setting(setting: str, *, directory: Path, steps: int) -> bool:
    """Run one setting and print its row."""
    out, log = directory / f"run-{time.monotonic_ns()}", directory / "log.txt"
    arguments = ["train-frame", "clip.mp4", "--out", str(out), "--seed", "0", *setting.split()]
    command = [sys.executable, "-m", "ldf_video", *arguments]
    started = time.monotonic()
    command += ["--steps", str(steps), "--device", "cpu"]
    try:
        with log.open("w") as errors:
            peak = peak_bytes(command, directory=directory, errors=errors)
    except subprocess.CalledProcessError:
        print(f"| `{setting}` | {log.read_text().splitlines()[-1]} |", flush=True)
        return False
    took = time.monotonic() - started
    budget = bytes_of(arguments[arguments.index("--max-memory") + 1])
    config = json.loads((out / "config.json").read_text())
    expected = config["memory"]["expected_bytes"]
    (picked,) = re.findall(r"^--max-memory [^:]*: (.*);", log.read_text(), flags=re.MULTILINE)
    fits = peak.own <= budget
    print(
        f"| `{setting}` | {picked} | {budget / MIB:.0f} | {expected / MIB:.0f} "
        f"| {peak.own / MIB:.0f} | {'yes' if fits else 'NO'} | {took:.0f} |",
        flush=True,
    )
    return fits


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="updates; every fourth is a large one")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of settings, from 0")
    options = parser.parse_args()
    chosen = SETTINGS if options.only is None else [SETTINGS[number] for number in options.only]
    print("| options | picked | budget MiB | expected MiB | peak MiB | held | seconds |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        make_video(Path(name) / "clip.mp4", num_frames=300)
        rows = [
            check_setting(setting, directory=Path(name), steps=options.steps) for setting in chosen
        ]
    return 0 if all(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
