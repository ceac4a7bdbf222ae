"""Ctrl-C while training: held back until an update is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Interrupts:
    """Whether Ctrl-C waits."""

    waiting: bool = False


@contextmanager
def interrupts_held() -> Iterator[Interrupts]:
    """Hold Ctrl-C back, to be asked for between updates, so that it cuts none.

    A second Ctrl-C comes through at once. Where Ctrl-C is not Python's own, nothing is held.
    """
    interrupts = Interrupts()

    def hold(number: int, frame: Any) -> None:
        if interrupts.waiting:
            raise KeyboardInterrupt
        interrupts.waiting = True

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, hold)
    try:
        yield interrupts
        if interrupts.waiting:
            raise KeyboardInterrupt
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
