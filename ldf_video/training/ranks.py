"""Several processes as one: who this is, what all agree on, and sums over all of them.

Started by `accelerate launch --num_processes N -m ldf_video ...` (or torchrun); without it there is
one process, and everything here costs nothing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from ldf_video.errors import LdfError, UsageError
from ldf_video.interrupts import LAUNCH_VARIABLES, launched

Value = TypeVar("Value")

PATIENCE = timedelta(hours=24)
"""How long a process waits for another: one may be reading clips while the rest have none left."""
_STATES = (AcceleratorState, PartialState, GradientState)
_LAUNCHERS = (*LAUNCH_VARIABLES, "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_numbers = itertools.count()


def make_accelerator(device: str, *, mixed_precision: str = "no") -> Accelerator:
    """An accelerator for one training on one device, configured by these arguments alone.

    Accelerate keeps one state a process, and takes settings that are not given from the
    environment, where its launcher leaves those for other programs, and a cluster its variables.
    """
    for state in _STATES:
        state._shared_state.clear()
    foreign = [n for n in os.environ if n.startswith(("ACCELERATE_", "PARALLELISM_CONFIG"))]
    if launched()[1] == 1:  # then another program left these
        foreign += [name for name in _LAUNCHERS if name in os.environ]
    hidden = {name: os.environ.pop(name) for name in foreign}
    try:
        return Accelerator(
            cpu=device == "cpu",
            mixed_precision=mixed_precision,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    finally:
        os.environ.update(hidden)


@contextmanager
def accelerate_kept() -> Iterator[None]:
    """Restore Accelerate's state afterwards: the caller may use it for something else."""
    kept = [(state._shared_state, dict(state._shared_state)) for state in _STATES]
    try:
        yield
    finally:
        for shared, before in kept:
            shared.clear()
            shared.update(before)


@dataclass(frozen=True)
class Ranks:
    """The processes that do one piece of work together: `index` of this one, from 0, of `count`."""

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
            LdfError: what `make` raised, in every process, but for the first with
                `reported_elsewhere`, so that the user reads it once. Of another error, which the
                first process raises as it is, the others have an LdfError.
        """
        if self.count == 1:
            return make()
        if not self.is_first:
            outcome = self.gather(None)[0]
            if isinstance(outcome, LdfError):
                outcome.reported_elsewhere = True
            if isinstance(outcome, LdfError | KeyboardInterrupt):
                raise outcome
            return outcome  # type: ignore[return-value]
        try:
            made = make()
        except BaseException as error:  # else the others wait for it as long as for work
            is_known = isinstance(error, LdfError | KeyboardInterrupt)
            with suppress(LdfError):  # they have ended: the first error is the one to report
                self.gather(error if is_known else LdfError(f"the first process failed: {error!r}"))
            raise
        self.gather(made)
        return made

    def end_after_first(self, work: Callable[[], None], *, patience: timedelta) -> None:
        """Have the first do a last piece of work, the others wait: who ends early ends them all.

        They do not wait any longer than `patience`, nor once the first has ended.
        """
        if self.count == 1:
            work()
            return
        # Not by a collective: that knows no bound of its own.
        store = dist.distributed_c10d._get_default_store()
        name = f"ldf-video/last-work-{next(_numbers)}"
        if self.is_first:
            try:
                work()
            finally:
                store.set(name, "done")
        else:
            with suppress(RuntimeError):
                store.wait([name], patience)

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
    """Turn a closed connection into an error of one line; the process that ended reports why."""
    try:
        yield
    except RuntimeError as error:
        raise LdfError(
            "another of the processes that were launched together has ended: see what it says;"
            " the same command goes on"
        ) from error


def join_ranks(device: str) -> Ranks:
    """Join the processes that were launched together, or be the only one."""
    if launched()[1] == 1:
        return Ranks()
    accelerator = make_accelerator(device)
    return Ranks(accelerator.process_index, accelerator.num_processes)


def check_alone(work: str) -> None:
    """Check that work of one process was not launched as several.

    Raises:
        UsageError: it was.
    """
    rank, count = launched()
    if count > 1:
        error = UsageError(f"{work} takes one process: start it without a launcher")
        error.reported_elsewhere = rank != 0
        raise error
