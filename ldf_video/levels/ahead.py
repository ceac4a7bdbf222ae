"""Work that a thread does ahead of whoever takes its results."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue
from typing import TypeVar

import torch

Item = TypeVar("Item")

_LOOK_SECONDS = 0.05
"""How often a thread that is to end is looked after."""


class _End:
    """Comes behind the last item; `error` is what stopped the thread, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def ahead(items: Iterable[Item], *, count: int, threads: int) -> Iterator[Iterator[Item]]:
    """Let a thread of its own make items, up to `count` + 1 more than were taken.

    What comes out is what goes in, in that order, whatever the timing. An error of the thread is
    raised where the next item would be taken. When the block ends, by an error or by Ctrl-C too,
    the thread ends with the item that it is making, and whoever still takes finds no more.

    Args:
        items: made one after the other, in the thread.
        count: items that wait at most, 1 or more.
        threads: that torch uses in the thread. The caller keeps as many as it has.
    """
    ready: Queue[Item | _End] = Queue(count)
    is_over = threading.Event()

    def make() -> None:
        if is_over.is_set():
            return
        end = _End()
        try:
            torch.set_num_threads(threads)  # of this thread, and of threads that begin later
            for item in items:
                ready.put(item)
                if is_over.is_set():
                    return
        except BaseException as error:
            end = _End(error)
        ready.put(end)

    def take() -> Iterator[Item]:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    before = torch.get_num_threads()
    maker = threading.Thread(target=make, name="ahead", daemon=True)
    try:
        maker.start()
        yield take()
    finally:
        is_over.set()
        while maker.ident is not None and maker.is_alive():
            with suppress(Empty):  # room for what it still puts
                ready.get(timeout=_LOOK_SECONDS)
        with suppress(Empty):
            while True:
                ready.get_nowait()
        ready.put(_End())
        torch.set_num_threads(before)
