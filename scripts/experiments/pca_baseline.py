"""How close held-out frames come back from N numbers each, by PCA: what a frame model must beat.

    python scripts/experiments/pca_baseline.py clips/test --train clips/train --numbers 256

Principal components are fitted to a random sample of the training frames, twice: of whole frames,
and of 8 x 8 blocks, all with one set of components and N / blocks numbers each. Prints JSON: PSNR
in dB of the frames as 8-bit pixels, their squared errors pooled as `reconstruct` does it, and how
many frames were fitted and measured. The same call gives the same components.

Up to 4,096 dimensions the components are exact, above by subspace iteration, a little short of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from ldf_video.checks import frame_rate, frame_size
from ldf_video.clips.read import open_clips
from ldf_video.errors import LdfError, ReadError, UsageError
from ldf_video.sources.search import find_sources
from ldf_video.video.geometry import Geometry, make_geometry
from ldf_video.video.pixels import psnr_db

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BLOCK = 8
BATCH = 1024
EXACT_DIMS = 4096
OVERSAMPLING = 64
ITERATIONS = 4


@dataclass(frozen=True)
class Basis:
    """A mean, shape (d,), and orthonormal components, shape (d, k)."""

    mean: Floats
    components: Floats

    def through(self, vectors: Frames) -> Frames:
        """Vectors (n, d) from their k numbers each, in whole levels of 0..255."""
        numbers = (vectors - self.mean) @ self.components
        return np.rint(numbers @ self.components.T + self.mean).clip(0, 255).astype(np.uint8)


# -------------------- frames


def read_frames(clips: Path, geometry: Geometry) -> Iterator[Frames]:
    """All frames (H, W, 3) of all clips, in order.

    Raises:
        LdfError: a source is not there or cannot be read to its end.
    """
    for source in find_sources(clips):
        for stream in open_clips(source, geometry):
            yield from stream.frames


def sample_frames(
    frames: Iterator[Frames], shape: tuple[int, int, int], *, count: int, seed: int
) -> Frames:
    """A random sample of frames, drawn in one pass (reservoir sampling, Vitter's algorithm R).

    Args:
        frames: each of `shape`.
        shape: (H, W, 3).
        count: how many to draw; fewer frames are all taken.
        seed: of the draws.

    Returns:
        Shape (up to count, H, W, 3).
    """
    rng = np.random.default_rng(seed)
    sample = np.empty((count, *shape), np.uint8)
    seen = 0
    for frame in frames:
        place = seen if seen < count else int(rng.integers(seen + 1))
        if place < count:
            sample[place] = frame
        seen += 1
    return sample[:seen]


def whole(frames: Frames) -> Frames:
    """Frames (n, H, W, 3) as vectors (n, H W 3)."""
    return frames.reshape(len(frames), -1)


def blocks(frames: Frames) -> Frames:
    """Frames (n, H, W, 3) as vectors of their 8 x 8 blocks, shape (n H W / 64, 192)."""
    n, height, width, colours = frames.shape
    rows = frames.reshape(n, height // BLOCK, BLOCK, width // BLOCK, BLOCK, colours)
    return rows.swapaxes(2, 3).reshape(-1, BLOCK * BLOCK * colours)


# -------------------- components


def centred(vectors: Frames, mean: Floats) -> Iterator[Floats]:
    """A batch at a time, so that no copy of all is made."""
    for start in range(0, len(vectors), BATCH):
        yield vectors[start : start + BATCH] - mean


def fit(vectors: Frames, *, numbers: int, seed: int = 0) -> Basis:
    """The principal components of vectors.

    Args:
        vectors: shape (n, d), n at least 1.
        numbers: how many components, 1 to d.
        seed: of the subspace that iteration starts from, above 4,096 dimensions.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    if vectors.shape[1] <= EXACT_DIMS:
        return Basis(mean, exact_components(vectors, mean, numbers))
    return Basis(mean, iterated_components(vectors, mean, numbers, seed=seed))


def exact_components(vectors: Frames, mean: Floats, numbers: int) -> Floats:
    """Eigenvectors of the covariance, those of the largest eigenvalues, shape (d, numbers)."""
    covariance = np.zeros((len(mean), len(mean)))
    for batch in centred(vectors, mean):
        covariance += batch.T @ batch
    _, directions = np.linalg.eigh(covariance)
    return np.ascontiguousarray(directions[:, ::-1][:, :numbers], np.float32)


def iterated_components(vectors: Frames, mean: Floats, numbers: int, *, seed: int) -> Floats:
    """The same by subspace iteration from random directions (Halko et al. 2011, algorithm 4.4).

    64 directions more than asked for are carried along; the covariance is never formed.
    """
    width = min(numbers + OVERSAMPLING, len(mean))
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((len(mean), width), dtype=np.float32)
    for _ in range(ITERATIONS):
        directions, _ = np.linalg.qr(directions)
        product = np.zeros_like(directions)
        for batch in centred(vectors, mean):
            product += batch.T @ (batch @ directions)
        directions = product
    directions, _ = np.linalg.qr(directions)
    within = np.zeros((width, width))
    for batch in centred(vectors, mean):
        numbers_of_batch = batch @ directions
        within += numbers_of_batch.T @ numbers_of_batch
    _, turn = np.linalg.eigh(within)
    return directions @ turn[:, ::-1][:, :numbers].astype(np.float32)


# -------------------- measuring


def measure(
    frames: Iterator[Frames], bases: dict[Callable[[Frames], Frames], Basis]
) -> tuple[list[float], int]:
    """PSNR in dB through each basis, and the number of frames.

    Args:
        frames: each (H, W, 3).
        bases: what makes vectors of frames, and the basis of such vectors.

    Raises:
        ReadError: there are no frames.
    """
    errors, num_values, num_frames = [0] * len(bases), 0, 0
    while batch := list(islice(frames, BATCH)):
        stacked = np.stack(batch)
        num_frames += len(batch)
        num_values += stacked.size
        for number, (vectors_of, basis) in enumerate(bases.items()):
            vectors = vectors_of(stacked)
            difference = basis.through(vectors).astype(np.int32) - vectors
            errors[number] += int(np.square(difference).sum(dtype=np.int64))
    if not num_frames:
        raise ReadError("got no frames to measure, expected one or more: give other CLIPS")
    return [psnr_db(error / num_values) for error in errors], num_frames


def check_numbers(numbers: int, height: int, width: int) -> int:
    """How many numbers a block gets.

    Raises:
        UsageError: the frames have no whole blocks, or the numbers do not fit them.
    """
    if height % BLOCK or width % BLOCK:
        raise UsageError(f"--size is {width}x{height}, expected multiples of {BLOCK}: give such")
    least, most = height * width // BLOCK**2, height * width * 3
    if not least <= numbers <= most:
        raise UsageError(f"--numbers is {numbers}, expected {least} to {most} at this --size")
    return numbers // least


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="held-out clips, to measure")
    parser.add_argument(
        "--train", type=Path, help="clips to fit to (default: CLIPS themselves, which flatters)"
    )
    parser.add_argument("--numbers", type=int, required=True, help="a frame")
    parser.add_argument("--size", default="32", help="of frames, N or WIDTHxHEIGHT (default: 32)")
    parser.add_argument("--fps", help="frames a second to take (default: all)")
    parser.add_argument("--crop", help="centre (default) or none")
    parser.add_argument("--frames", type=int, default=15_000, help="to fit to (default: 15000)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Fit and measure; returns what is printed.

    Raises:
        LdfError: an option is wrong, or clips cannot be read.
    """
    for name, value, least in (("--frames", args.frames, 1), ("--seed", args.seed, 0)):
        if value < least:
            raise UsageError(f"{name} is {value}, expected {least} or more")
    geometry = make_geometry(
        size=frame_size("--size", args.size),
        fps=None if args.fps is None else frame_rate("--fps", args.fps),
        crop=args.crop,
    )
    height, width = geometry.height, geometry.width
    numbers = {whole: args.numbers, blocks: check_numbers(args.numbers, height, width)}
    frames = read_frames(args.train or args.clips, geometry)
    sample = sample_frames(frames, (height, width, 3), count=args.frames, seed=args.seed)
    if not len(sample):
        raise ReadError("got no frames to fit to, expected one or more: give other --train")
    bases = {
        vectors_of: fit(vectors_of(sample), numbers=count, seed=args.seed)
        for vectors_of, count in numbers.items()
    }
    found, num_measured = measure(read_frames(args.clips, geometry), bases)
    kinds = {
        vectors_of.__name__: {
            "dims": len(basis.mean),
            "numbers": basis.components.shape[1],
            "psnr_db": round(psnr, 2),
        }
        for (vectors_of, basis), psnr in zip(bases.items(), found, strict=True)
    }
    return {
        "size": f"{width}x{height}",
        "numbers_a_frame": args.numbers,
        "fitted_frames": len(sample),
        "measured_frames": num_measured,
        **kinds,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 the work failed, 2 wrong usage."""
    args = parse_arguments(argv)
    try:
        print(json.dumps(run(args), indent=2))
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
