"""Cuts films into training clips: square windows at random places and of random size.

    python scripts/cut_films.py FILM [FILM ...] --out clips/film --size 64

A film is cut in time into spans of 16 frames (`--frames`); in each, some windows are drawn, their
side between half of the picture's height and all of it, and scaled to SIZE by area. Every seventh
block of ten seconds goes to test/, with the spans that touch it in neither split, so that no frame
is in both, whatever the number of frames or windows.

    OUT/train/FILM.npy, OUT/test/FILM.npy     uint8 (N, FRAMES, SIZE, SIZE, 3)

The same call gives the same bytes. Small windows of few films make a frame model of natural video
see thousands of places instead of one centre.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Frames = npt.NDArray[np.uint8]
BLOCK_SECONDS = 10
TEST_BLOCK = 7


def spans(film: Path, *, length: int) -> Iterator[tuple[float, float, list[Frames]]]:
    """Spans of adjacent frames, whole ones only, with the seconds of their first and last frame."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 25)
        frames: list[Frames] = []
        for number, frame in enumerate(container.decode(stream)):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == length:
                yield (number + 1 - length) / rate, number / rate, frames
                frames = []


def split_of(first: float, last: float) -> str | None:
    """Which split frames between two seconds belong to; None where they touch blocks of both."""
    tests = {int(t // BLOCK_SECONDS) % TEST_BLOCK == TEST_BLOCK - 1 for t in (first, last)}
    return None if len(tests) > 1 else "test" if tests.pop() else "train"


def window(frames: list[Frames], rng: np.random.Generator, *, size: int) -> Frames:
    """A random square window of a span, uint8 (frames, size, size, 3)."""
    height, width = frames[0].shape[:2]
    shorter = min(height, width)
    side = int(rng.integers(max(size, shorter // 2), shorter + 1)) if shorter > size else shorter
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    box = (left, top, left + side, top + side)
    cut = [Image.fromarray(f).resize((size, size), Image.Resampling.BOX, box=box) for f in frames]
    return np.stack([np.asarray(picture) for picture in cut])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("clips/film"))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=16, help="a clip")
    parser.add_argument("--windows", type=int, default=4, help="a span")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in ("size", "frames", "windows"):
        if (given := getattr(arguments, name)) < 1:
            parser.error(f"--{name} {given}: expected 1 or more")
    for number, film in enumerate(arguments.films):
        rng = np.random.default_rng([arguments.seed, number])
        clips: dict[str, list[Frames]] = {"train": [], "test": []}
        for first, last, frames in spans(film, length=arguments.frames):
            split = split_of(first, last)
            drawn = [window(frames, rng, size=arguments.size) for _ in range(arguments.windows)]
            if split is not None:
                clips[split] += drawn
        for split, found in clips.items():
            if found:
                path = arguments.out / split / f"{film.stem}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, np.stack(found))
            print(f"{film.name}: {len(found)} clips for {split}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
