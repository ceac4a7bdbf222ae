"""Arrays in files: frames a second against h5py, zarr and NumPy alone, and memory by length.

    OMP_NUM_THREADS=1 python scripts/benchmarks/bench_arrays.py

Writes a soft picture that drifts under a little noise, uint8 (T, 96, 96, 3), with chunks of 100
frames, and reads it in a process of its own: by the library alone, a whole chunk at a time; as
frames (`arrays.FrameArray`); and as `encode` does, cropped and scaled to 32 x 32. Each is read
three times in turn and the fastest counts. Memory is RssAnon + RssShmem above that of the process
before it reads, at the peak of a hundred frames and of all of them (Linux only).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from bench_tools import MIB, alone, resident_bytes

from ldf_video.arrays.frame_array import ArrayClips
from ldf_video.clips.formats import open_source
from ldf_video.clips.read import open_clips
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry

SIDE, CHUNK, SHORT, TIMES = 96, 100, 100, 3
FILES = {
    "npy": "a.npy",
    "npz, stored": "stored.npz",
    "npz, deflated": "deflated.npz",
    "HDF5": "plain.h5",
    "HDF5, gzip": "gzip.h5",
    "zarr 2": "v2.zarr",
    "zarr 3": "v3.zarr",
}
WAYS = ("alone", "frames", "clips")


def make_frames(num_frames: int) -> np.ndarray:
    """Frames, uint8 (T, 96, 96, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 250, (24, 24, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    noise = rng.integers(0, 6, (7, SIDE, SIDE, 3), dtype=np.uint8)
    frames = np.empty((num_frames, SIDE, SIDE, 3), np.uint8)
    for k, frame in enumerate(frames):
        frame[:] = coarse[k // 2 % SIDE :][:SIDE, k % SIDE :][:, :SIDE] + noise[k % 7]
    return frames


def write_all(folder: Path, num_frames: int) -> None:
    """The same frames in every kind of file."""
    folder.mkdir()
    frames = make_frames(num_frames)
    np.save(folder / FILES["npy"], frames)
    np.savez(folder / FILES["npz, stored"], obs=frames)
    np.savez_compressed(folder / FILES["npz, deflated"], obs=frames)
    for name, compression in (("HDF5", None), ("HDF5, gzip", "gzip")):
        with h5py.File(folder / FILES[name], "w") as file:
            chunks = (CHUNK, *frames.shape[1:])
            file.create_dataset("img", data=frames, chunks=chunks, compression=compression)
    for version in (2, 3):
        root = zarr.open_group(folder / FILES[f"zarr {version}"], mode="w", zarr_format=version)
        root.create_array("img", data=frames, chunks=(CHUNK, *frames.shape[1:]))


def chunks_alone(path: Path) -> Iterator[np.ndarray]:
    """Blocks of frames, by the library that the format is of."""
    file: Any = None
    if path.suffix == ".npy":
        array: Any = np.load(path, mmap_mode="r")
    elif path.suffix == ".npz":
        yield np.load(path)["obs"]
        return
    elif path.suffix == ".h5":
        file = h5py.File(path)
        array = file["img"]
    else:
        array = zarr.open_group(path, mode="r")["img"]
    for start in range(0, array.shape[0], CHUNK):
        yield np.array(array[start : start + CHUNK])
    if file is not None:
        file.close()


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """Frames at their own size, without what brings them to a model's."""
    with open_source(find_sources(path)[0]) as clips:
        assert isinstance(clips, ArrayClips)
        (array,) = clips.arrays
        for number in range(array.num_frames):
            yield array.image(0, number)[None]


def clips_of(path: Path) -> Iterator[np.ndarray]:
    """Frames as `encode` takes them."""
    (clip,) = open_clips(find_sources(path)[0], Geometry(32, 32))
    for frame in clip.frames:
        yield frame[None]


READ: dict[str, Callable[[Path], Iterator[np.ndarray]]] = {
    "alone": chunks_alone,
    "frames": frames_of,
    "clips": clips_of,
}


def measure(path: Path, way: str) -> dict[str, float]:
    """Read all frames of a file in this process."""
    before = peak = resident_bytes(os.getpid()).own
    start, count = time.perf_counter(), 0
    with closing(READ[way](path)) as blocks:  # type: ignore[type-var]
        for block in blocks:
            if count % CHUNK == 0:
                peak = max(peak, resident_bytes(os.getpid()).own)
            count += len(block)
    seconds = time.perf_counter() - start
    return {"frames_per_second": count / seconds, "peak_mib": (peak - before) / MIB}


def main() -> None:
    """Print a table; with --one, one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(Path(options.one[0]), options.one[1])))
        return
    with tempfile.TemporaryDirectory() as directory:
        short, long = Path(directory) / "short", Path(directory) / "long"
        write_all(short, SHORT)
        write_all(long, options.frames)
        print(f"{options.frames:,} frames of {SIDE} x {SIDE}, frames a second\n")
        print(
            "| file | library alone | as frames | share | to 32 x 32 | share "
            f"| MiB, {SHORT} frames | MiB, {options.frames:,} frames |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for name, file in FILES.items():
            turns = [
                {way: alone(__file__, "--one", long / file, way) for way in WAYS}
                for _ in range(TIMES)
            ]
            best = {way: max(turn[way]["frames_per_second"] for turn in turns) for way in WAYS}
            few = alone(__file__, "--one", short / file, "clips")["peak_mib"]
            many = max(turn["clips"]["peak_mib"] for turn in turns)
            shares = {way: best[way] / best["alone"] for way in WAYS}
            print(
                f"| {name} | {best['alone']:,.0f} | {best['frames']:,.0f} | {shares['frames']:.2f} "
                f"| {best['clips']:,.0f} | {shares['clips']:.2f} | {few:.0f} | {many:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
