"""What these scripts share: checked options, work in several processes, files; not a command."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from ldf_video.errors import LdfError, UsageError
from ldf_video.output import replacing

Frames = NDArray[np.uint8]
SPLITS = ("train", "test")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Number(NamedTuple):
    """A whole number among the options, and what it may be."""

    name: str
    default: int
    least: int
    most: int | None
    help: str


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")

    def parse(self, numbers: Sequence[Number], argv: Sequence[str] | None) -> argparse.Namespace:
        """Add the numbers, parse all options and check the numbers' ranges."""
        for number in numbers:
            text = f"{number.help} (default: {number.default})"
            self.add_argument(number.name, type=int, default=number.default, help=text)
        args = self.parse_args(argv)
        for name, _, least, most, _ in numbers:
            value = getattr(args, name[2:].replace("-", "_"))
            if value < least or (most is not None and value > most):
                expected = f"{least} or more" if most is None else f"{least} to {most}"
                self.error(f"{name} is {value}, expected {expected}")
        return args


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, jobs: int
) -> Iterator[Result]:
    """Results in the order of the items, several worked on at a time; they do not depend on it."""
    if jobs == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, items)


def write_clips(path: Path, parts: Iterable[Frames], *, shape: tuple[int, ...]) -> None:
    """Write parts (n, T, H, W, 3), one after the other, as a .npy array of this whole shape.

    One part is in memory at a time, and the name appears once the file is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        begin = 0
        for part in parts:
            array[begin : begin + len(part)] = part
            begin += len(part)
        array.flush()


def write_conditions(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write what led to each frame beside a clip, a row a frame, as a CSV of these columns.

    Of an array of clips the rows follow each other, clip by clip.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def exit_code(record: Callable[[], object], *, stopped: str) -> int:
    """Do the work; 0 done, 1 it failed, 2 wrong usage, 130 stopped by Ctrl-C, with a line why."""
    try:
        record()
    except LdfError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 130
    return 0
