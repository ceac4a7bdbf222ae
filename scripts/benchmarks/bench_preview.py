"""How long `preview` takes for many clips, against decoding alone, and how large its page is.

    OMP_NUM_THREADS=1 python scripts/benchmarks/bench_preview.py --clips 1000

Makes one h264 video of 320 x 240 and 300 frames, links it under as many names, and writes the page;
then decodes the same frames of the same files by a plain loop of PyAV in as many processes as there
are cores. The ratio is of both times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
from bench_clips import make_scene
from bench_tools import MIB

from ldf_video.api import preview
from ldf_video.recipes.preview import FRAMES, LEAST_FRAMES


def decode(path: Path, most_frames: int) -> int:
    """Decode the first frames of a video and make them small."""
    count = 0
    with av.open(str(path)) as video:
        for frame in itertools.islice(video.decode(video=0), most_frames):
            frame.to_ndarray(format="rgb24", width=32, height=32)
            count += 1
    return count


def main() -> None:
    """Print seconds of both, their ratio and the size of the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--size", default="32")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "clips"
        folder.mkdir()
        make_scene(Path(place) / "scene.mp4", num_frames=300, height=240, width=320)
        paths = [folder / f"{number:05}.mp4" for number in range(asked.clips)]
        for path in paths:
            os.link(Path(place) / "scene.mp4", path)
        start = time.perf_counter()
        done = preview(folder, out=Path(place) / "preview.html", size=asked.size, device="cpu")
        seconds, num_bytes = time.perf_counter() - start, done.path.stat().st_size
        most = max(LEAST_FRAMES, FRAMES // asked.clips)
        start = time.perf_counter()
        with ProcessPoolExecutor() as processes:
            num_frames = sum(processes.map(decode, paths, [most] * asked.clips, chunksize=8))
        alone = time.perf_counter() - start
    print(
        f"preview: {seconds:.1f} s for {asked.clips:,} clips, {done.totals.num_frames:,} frames; "
        f"decoding {num_frames:,} alone: {alone:.1f} s; ratio {seconds / alone:.2f}; "
        f"page {num_bytes / MIB:.1f} MiB"
    )
    print(json.dumps({"seconds": seconds, "decoding": alone, "page_bytes": num_bytes}))


if __name__ == "__main__":
    main()
