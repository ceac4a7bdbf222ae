"""What the recorders share: options that are checked, games in several processes; not a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple, NoReturn, TypeVar

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
