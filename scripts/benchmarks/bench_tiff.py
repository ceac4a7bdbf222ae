"""Memory of TIFF stacks of 100 and 10,000 pages, read by Pillow and by tifffile.

python scripts/benchmarks/bench_tiff.py

Prints for each kind the memory that reading adds, and how much more that is for the longer stack.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from ldf_video.clips.read import open_clips
from ldf_video.video.geometry import Geometry

PAGES = (100, 10_000)
SIDE = 128
KINDS = {
    "pages, Pillow": {"photometric": "minisblack", "metadata": None, "contiguous": False},
    "ImageJ channels, tifffile": {"imagej": True, "metadata": {"axes": "TCYX"}},
    "OME channels, LZW, tifffile": {
        **{"ome": True, "photometric": "minisblack", "compression": "lzw"},
        "metadata": {"axes": "TCYX"},
    },
}


def anonymous_mib() -> float:
    """Memory of this process that is no file's."""
    text = Path("/proc/self/status").read_text()
    return sum(int(text.split(f"{key}:")[1].split()[0]) for key in ("RssAnon", "RssShmem")) / 1024


def read(path: Path) -> tuple[int, float]:
    """Reads a stack; the number of frames and the most memory that this added."""
    before, most, count = anonymous_mib(), 0.0, 0
    for clip in open_clips(path, Geometry(32, 32)):
        for _ in clip.frames:
            count += 1
            if count % 10 == 0:
                most = max(most, anonymous_mib() - before)
    return count, most


def main() -> None:
    """Prints a line for each kind of stack."""
    spawn = multiprocessing.get_context("spawn")
    pages = np.random.default_rng(0).integers(0, 256, (64, 2, SIDE, SIDE), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for name, options in KINDS.items():
            used = []
            for num in PAGES:
                path = Path(folder) / f"{num}.tif"
                frames = pages[np.arange(num) % len(pages)]
                if "Pillow" in name:
                    frames = frames[:, 0]
                    with tifffile.TiffWriter(path) as writer:
                        for frame in frames:
                            writer.write(frame, **options)
                else:
                    tifffile.imwrite(path, frames, **options)
                with spawn.Pool(1) as pool:
                    count, most = pool.apply(read, (path,))
                assert count == num
                used.append(most)
            print(
                f"{name}: {used[0]:.1f} MiB for {PAGES[0]} frames, {used[1]:.1f} MiB for "
                f"{PAGES[1]:,}: {used[1] - used[0]:+.1f} MiB"
            )


if __name__ == "__main__":
    main()
