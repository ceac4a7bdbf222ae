"""How many of torch's threads a training takes, as other processes leave it room."""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_UPDATES = 4
"""Whose median says how quick a number of threads is; the first after a change does not count."""
_TRIAL_SHARE = 0.05
"""Of the time, spent at most on trying other numbers."""
_GAIN = 0.95
"""Another number is taken where its updates take less than this share of the time."""


class Threads:
    """Takes fewer threads than there are while that is quicker.

    The threads of an operation wait for the last of them. Where another process holds one of two
    cores, two threads are slower than one on the other core. So now and then, from the first
    updates on, a few are done with the next lower or the next higher number of 1, 2, 4 ... and all
    but one and all, and the quicker number is gone on with.

    The last digits of weights depend on the number, so this is for trainings whose length is given
    in minutes, which do not repeat anyway.

    Attributes:
        count: torch's threads at present.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.count = most = torch.get_num_threads()
        powers = {2**power for power in range(most.bit_length())}
        self._numbers = sorted(powers | {max(most - 1, 1), most})
        self._clock = clock
        self._known: deque[float] = deque(maxlen=_UPDATES)  # seconds of updates, by `count`
        self._trial: list[float] = []  # the same, by the number that is tried
        self._before: int | None = None  # what `count` was, while another number is tried
        self._step = -1  # of the next trial, in `_numbers`
        self._next_trial = clock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around one update, on a CPU."""
        began = self._clock()
        yield
        seconds = self._clock() - began
        if self._before is not None:
            self._trial.append(seconds)
            if len(self._trial) > _UPDATES:
                self._decide(self._before, self._trial)
        else:
            self._known.append(seconds)
            if len(self._known) == _UPDATES and self._clock() >= self._next_trial:
                self._try_another()

    def _try_another(self) -> None:
        place = self._numbers.index(self.count)
        if not 0 <= place + self._step < len(self._numbers):
            self._step = -self._step
        self._before, self._trial = self.count, []
        self._set(self._numbers[place + self._step])

    def _decide(self, before: int, trial: list[float]) -> None:
        self._next_trial = self._clock() + sum(trial) / _TRIAL_SHARE
        self._before = None
        if statistics.median(trial[1:]) < _GAIN * statistics.median(self._known):
            self._known.extend(trial[1:])
        else:
            self._step = -self._step
            self._set(before)

    def _set(self, count: int) -> None:
        self.count = count
        torch.set_num_threads(count)


def may_choose() -> bool:
    """Whether there are several threads, and nobody said how many."""
    said = any(name in os.environ for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return torch.get_num_threads() > 1 and not said
