"""PyAV against decord: frames a second and peak memory from a video to small frames.

    OMP_NUM_THREADS=1 python scripts/benchmarks/bench_readers.py

Makes a 640 x 360 h264 video and reads it to 32 x 32 with each reader in turn, from the first frame
to the last, each time in a process of its own; once as fast as it goes, and once by a consumer
that takes 5 ms a frame, during which a reader may decode ahead. Memory is RssAnon + RssShmem above
that of the process before it reads, sampled every 100 frames (Linux only).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import cast

import av
import numpy as np
from bench_tools import MIB, alone, resident_bytes

from ldf_video.clips.read import check_reader, open_clips
from ldf_video.options.reading import Reader
from ldf_video.video.geometry import Geometry


def make_video(path: Path, *, num_frames: int) -> None:
    """Write a soft picture that drifts, 640 x 360, at 25 frames a second."""
    coarse = np.random.default_rng(0).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    image = coarse.repeat(20, axis=0).repeat(20, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 360, 640, "yuv420p"
        for k in range(num_frames):
            shown = np.ascontiguousarray(image[k // 2 % 360 :][:360, k % 640 :][:, :640])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())


def measure(path: Path, reader: Reader, *, pause_seconds: float) -> dict[str, float]:
    """Read all frames of a video in this process.

    Raises:
        RuntimeError: the reader refused the file.
    """
    check_reader(reader)
    if reader == "decord":
        import decord  # noqa: F401  # not part of the reading
    before = peak = resident_bytes(os.getpid()).own
    start, num_frames = time.perf_counter(), 0
    (clip,) = open_clips(path, Geometry(32, 32), reader=reader)
    if clip.why_pyav:
        raise RuntimeError(f"decord was not right for it: {clip.why_pyav}")
    for _ in clip.frames:
        num_frames += 1
        if num_frames % 100 == 0:
            peak = max(peak, resident_bytes(os.getpid()).own)
        if pause_seconds:
            time.sleep(pause_seconds)
    seconds = time.perf_counter() - start
    return {"frames_per_second": num_frames / seconds, "peak_mib": (peak - before) / MIB}


def main() -> None:
    """Print a table; with --one, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        path, reader, pause = options.one
        found = measure(Path(path), cast("Reader", reader), pause_seconds=float(pause))
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.mp4"
        make_video(path, num_frames=options.frames)
        print(f"{options.frames:,} frames of 640 x 360 to 32 x 32\n")
        print("| reader | frames a second | peak MiB | peak MiB, slow consumer |")
        print("|---|---|---|---|")
        for reader in ("pyav", "decord"):
            fast, slow = (alone(__file__, "--one", path, reader, pause) for pause in (0, 0.005))
            print(
                f"| {reader} | {fast['frames_per_second']:,.0f} | {fast['peak_mib']:.0f} "
                f"| {slow['peak_mib']:.0f} |"
            )


if __name__ == "__main__":
    main()
