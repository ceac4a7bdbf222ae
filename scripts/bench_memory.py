"""Peak memory of every long command against the length of the video, in one run.

    python scripts/bench_memory.py

Makes a short and a long 320 x 240 video, and on each in turn encodes, trains both levels for a few
updates and generates as many frames, every command in a process of its own. Memory is RssAnon +
RssShmem summed over the process tree, sampled every 10 ms (Linux only): pages of mapped files can
be dropped and do not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ldf_video.video.write import VideoWriter

MIB = 1 << 20


def resident_bytes(pid: int) -> int:
    """RssAnon + RssShmem of a process and its descendants, 0 once they are gone."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += 1024 * int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = (task / "children").read_text().split()
            total += sum(resident_bytes(int(child)) for child in children)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def peak_bytes(arguments: list[str], *, directory: Path) -> int:
    """Run `ldf-video ARGUMENTS` and return its peak.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", "ldf_video", *arguments, "--quiet", "--device", "cpu"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.01)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


def make_video(path: Path, *, num_frames: int) -> None:
    """A moving pattern, 320 x 240 at 30 frames a second."""
    rows, columns = np.mgrid[:120, :160]
    with VideoWriter(path, fps=30, upscale=2) as writer:
        for number in range(num_frames):
            wave = (2 * rows + columns + 3 * number) % 256
            frame = np.stack([wave, np.roll(wave, number, axis=1), 255 - wave], axis=-1)
            writer.write(frame[None].astype(np.uint8))


def commands(length: int) -> dict[str, list[str]]:
    """The jobs for a video of `length` frames, in the order in which they need each other."""
    video, latents = f"{length}.mp4", f"latents-{length}"
    few = ["--seed", "0", "--batch-size", "16", "--steps"]
    return {
        "train-frame": ["train-frame", video, "--out", f"frame-{length}", *few, "10"],
        "encode": ["encode", video, "--frame-model", "pacman-32", "--out", latents],
        "train-top": ["train-top", "--latents", latents, "--out", f"top-{length}", *few, "20"],
        "generate": ["generate", "--frames", str(length), "-o", f"out-{length}.mp4"],
    }


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", type=int, default=300, help="frames of the short video")
    parser.add_argument("--long", type=int, default=18_000, help="frames of the long one")
    lengths = parser.parse_args()
    peaks: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for length in (lengths.short, lengths.long):
            make_video(directory / f"{length}.mp4", num_frames=length)
            for job, arguments in commands(length).items():
                peaks.setdefault(job, []).append(peak_bytes(arguments, directory=directory))
    results = {
        job: {
            f"mib_for_{lengths.short}_frames": round(short / MIB, 1),
            f"mib_for_{lengths.long}_frames": round(long / MIB, 1),
            "mib_more": round((long - short) / MIB, 1),
            "ratio": round(long / short, 3),
        }
        for job, (short, long) in peaks.items()
    }
    print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
