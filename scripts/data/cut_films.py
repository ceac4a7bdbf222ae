"""Cuts films into training clips: square windows at random places and of random size.

    python scripts/data/cut_films.py FILM [FILM ...] --out clips/film --size 64

A film is cut in time into spans of 16 frames (`--frames`); in each, some windows are drawn, their
side between half of the picture's height and all of it, and scaled to SIZE by area. Every seventh
block of ten seconds goes to test/, with the spans that touch it in neither split, so that no frame
is in both, whatever the number of frames or windows.

    OUT/train/FILM.npy, OUT/test/FILM.npy     uint8 (N, FRAMES, SIZE, SIZE, 3)

The same call gives the same bytes, whatever --jobs is. Small windows of few films make a frame
model of natural video see thousands of places instead of one centre.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image
from recording import SPLITS, Frames, Number, Parser, in_processes, write_clips

BLOCK_SECONDS = 10
TEST_BLOCK = 7

Spans = dict[str, list[tuple[int, Frames]]]
"""By split: the number of a span, and its windows (N, frames, size, size, 3)."""


def spans(
    film: Path, *, length: int, threads: int = 0
) -> Iterator[tuple[float, float, list[av.VideoFrame]]]:
    """Spans of adjacent frames, whole ones only, with the seconds of their first and last frame."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", threads
        rate = float(stream.average_rate or 25)
        frames: list[av.VideoFrame] = []
        for number, frame in enumerate(container.decode(stream)):
            frames.append(frame)
            if len(frames) == length:
                yield (number + 1 - length) / rate, number / rate, frames
                frames = []


def split_of(first: float, last: float) -> str | None:
    """Which split frames between two seconds belong to; None where they touch blocks of both."""
    tests = {int(t // BLOCK_SECONDS) % TEST_BLOCK == TEST_BLOCK - 1 for t in (first, last)}
    return None if len(tests) > 1 else "test" if tests.pop() else "train"


def place(height: int, width: int, rng: np.random.Generator, *, size: int) -> tuple[int, ...]:
    """A random square window of a picture: left, top, right, bottom, in pixels."""
    shorter = min(height, width)
    side = int(rng.integers(max(size, shorter // 2), shorter + 1)) if shorter > size else shorter
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return left, top, left + side, top + side


def cut(frames: list[Frames], box: tuple[int, ...], *, size: int) -> Frames:
    """A window of a span, uint8 (frames, size, size, 3)."""
    small = [Image.fromarray(f).resize((size, size), Image.Resampling.BOX, box=box) for f in frames]
    return np.stack([np.asarray(picture) for picture in small])


def cut_share(job: int, *, number: int, options: argparse.Namespace) -> Spans:
    """The windows of every `options.jobs`-th span of film `number`, from span `job` on."""
    rng = np.random.default_rng([options.seed, number])
    found: Spans = {"train": [], "test": []}
    threads = 0 if options.jobs == 1 else 1  # 0: as many as there are cores
    in_film = spans(options.films[number], length=options.frames, threads=threads)
    for index, (first, last, frames) in enumerate(in_film):
        height, width = frames[0].height, frames[0].width
        boxes = [place(height, width, rng, size=options.size) for _ in range(options.windows)]
        split = split_of(first, last)
        if split is None or index % options.jobs != job:
            continue
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
        windows = np.stack([cut(pixels, box, size=options.size) for box in boxes])
        found[split].append((index, windows))
    return found


def main() -> int:
    """Entry point."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("films", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("clips/film"))
    numbers = (
        Number("--size", 64, 1, None, "side of a clip in pixels"),
        Number("--frames", 16, 1, None, "of a clip"),
        Number("--windows", 4, 1, None, "of a span"),
        Number("--seed", 0, 0, None, "of every random choice"),
        Number("--jobs", os.cpu_count() or 1, 1, None, "processes, each decodes the whole film"),
    )
    options = parser.parse(numbers, None)
    for film in options.films:
        if not film.is_file():
            parser.error(f"{film}: expected a video file")
    if len({film.stem for film in options.films}) < len(options.films):
        parser.error("two films have one name: their clips would be one file; rename one")
    for number, film in enumerate(options.films):
        cut_film = partial(cut_share, number=number, options=options)
        shares = list(in_processes(cut_film, range(options.jobs), jobs=options.jobs))
        for split in SPLITS:
            parts = dict(sorted(part for share in shares for part in share[split]))
            count = sum(map(len, parts.values()))
            if parts:
                shape = (count, options.frames, options.size, options.size, 3)
                write_clips(options.out / split / f"{film.stem}.npy", parts.values(), shape=shape)
            print(f"{film.name}: {count} clips for {split}", flush=True)
        del shares, parts  # some gigabytes, beside which the next film is cut
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
