"""Several processes as one: who this is, what all agree on, and sums over all of them.

Started by `accelerate launch --num_processes N -m ldf_video ...` (or torchrun); without it there is
one process, and everything here costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from ldf_video.errors import LdfError, UsageError

Value = TypeVar("Value")

PATIENCE = timedelta(hours=24)
"""How long a process waits for another: one may be reading clips while the rest have none left."""


def make_accelerator(device: str, *, mixed_precision: str = "no") -> Accelerator:
    """An accelerator for one training on one device; Accelerate keeps one such state a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=mixed_precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )


@dataclass(frozen=True)
class Ranks:
    """The processes that do one piece of work together.

    Attributes:
        index: of this process, from 0.
        count: of all.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.index == 0

    def wait(self) -> None:
        """Return once every process has come here."""
        self.gather(None)

    def gather(self, value: Value) -> list[Value]:
        """The values (picklable) of all processes, in their order, in each of them.

        Raises:
            LdfError: another process has ended.
        """
        if self.count == 1:
            return [value]
        values: list[Value] = [value] * self.count
        with _peers():
            dist.all_gather_object(values, value)
        return values

    def of_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, in every process.

        Raises:
            LdfError: what `make` raised in the first process, in every process; `told` in all but
                the first, so that the user reads it once.
        """
        if self.count == 1:
            return make()
        outcome: Value | LdfError | None = None
        if self.is_first:
            try:
                outcome = make()
            except LdfError as error:
                outcome = error
        outcome = self.gather(outcome)[0]
        if isinstance(outcome, LdfError):
            outcome.told = not self.is_first
            raise outcome
        return outcome  # type: ignore[return-value]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            with _peers():
                dist.all_reduce(tensor)
        return tensor

    def mean(self, tensors: Sequence[torch.Tensor]) -> None:
        """Make tensors their means over all processes, in place: one message for all of them."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self.sum(flat).div_(self.count)
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def _peers() -> Iterator[None]:
    """Say in a line what a closed connection means; whoever ended has said why."""
    try:
        yield
    except RuntimeError as error:
        raise LdfError(
            "another of the processes that were launched together has ended: see what it says;"
            " the same command goes on"
        ) from error


def join_ranks(device: str) -> Ranks:
    """Join the processes that were launched together, or be the only one.

    Args:
        device: "cpu", "cuda" or "mps".
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Ranks()
    accelerator = make_accelerator(device)
    return Ranks(accelerator.process_index, accelerator.num_processes)


def check_alone(work: str) -> None:
    """See that work which one process does was not launched as several.

    Raises:
        UsageError: it was.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        error = UsageError(f"{work} takes one process: start it without a launcher")
        error.told = os.environ.get("RANK", "0") != "0"
        raise error
