"""What a process is told from outside: to stop (by a signal), and that it is one of several.

SIGTERM (docker stop, Slurm) and SIGHUP (a closed terminal) are raised like Ctrl-C, so that the code
that handles Ctrl-C finishes and keeps its work. Handlers are changed in the main thread only, and
only for signals that the caller neither ignores nor handles.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGHUP)
TOGETHER_SECONDS = 10.0
"""Signals within this time of the first count as one: shells and systemd send several."""


LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher (torchrun, accelerate launch, srun with a script) sets, all of them."""


def launched() -> tuple[int, int]:
    """The rank of this process among those that a launcher started, and how many; else (0, 1).

    If only some of the variables are set, another program left them.
    """
    try:
        rank, count, local = (int(os.environ[name]) for name in LAUNCH_VARIABLES[:3])
    except (KeyError, ValueError):
        return 0, 1
    complete = all(map(os.environ.get, LAUNCH_VARIABLES)) and 0 <= rank < count and local >= 0
    return (rank, count) if complete else (0, 1)


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came, the signal of that `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _error_of(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)


class _Raise:
    """Raises the first of several signals that come together."""

    def __init__(self) -> None:
        self._last = -TOGETHER_SECONDS

    def __call__(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if now - self._last >= TOGETHER_SECONDS:
            self._last = now
            raise _error_of(number)


@dataclass
class Interrupts:
    """Which signal is pending, if any."""

    number: int | None = None

    @property
    def waiting(self) -> bool:
        """Whether a signal is pending."""
        return self.number is not None

    def as_error(self) -> KeyboardInterrupt:
        """What to raise for the pending signal; as for Ctrl-C where another process was told."""
        return _error_of(self.number or signal.SIGINT)


@contextmanager
def stops_raised() -> Iterator[None]:
    """Raise SIGTERM and SIGHUP as `Stopped`; has no effect inside another such block.

    A launcher sends its processes a second Ctrl-C, besides the one of the terminal: there several
    that come together count once, too.
    """
    stops = [number for number in STOPS if _is_free(number, signal.SIG_DFL)]
    if launched()[1] > 1 and _is_free(signal.SIGINT, signal.default_int_handler):
        stops.append(signal.SIGINT)
    with _handled(dict.fromkeys(stops, _Raise())):
        yield


@contextmanager
def interrupts_held(on_first: Callable[[], None] = lambda: None) -> Iterator[Interrupts]:
    """Hold all three signals back, so that they interrupt no update; to be asked for in between.

    A second Ctrl-C is raised at once, unless a launcher sent it. `on_first` is called in the
    handler of the first signal: anywhere between two steps of Python, even in the middle of a
    print.
    """
    interrupts = Interrupts()
    apart = TOGETHER_SECONDS if launched()[1] > 1 else 0.0
    first = 0.0

    def hold(number: int, frame: Any) -> None:
        nonlocal first
        if not interrupts.waiting:
            interrupts.number, first = number, time.monotonic()
            on_first()
        elif number == signal.SIGINT and time.monotonic() - first >= apart:
            raise KeyboardInterrupt

    free = [number for number in STOPS if _is_free(number, signal.SIG_DFL, of_ours=True)]
    free += [signal.SIGINT] * _is_free(signal.SIGINT, signal.default_int_handler, of_ours=True)
    with _handled(dict.fromkeys(free, hold)):
        yield interrupts
        if interrupts.waiting:
            raise interrupts.as_error()


def _is_free(number: int, usual: Any, *, of_ours: bool = False) -> bool:
    """Whether a signal is handled as usual, or by a block of this module."""
    handler = signal.getsignal(number)
    return handler is usual or (of_ours and isinstance(handler, _Raise))


@contextmanager
def _handled(handlers: Mapping[int, Callable[[int, Any], None]]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
