"""Work in a thread ahead: the same items, errors at once, an end that waits for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from ldf_video.levels.ahead import ahead


def slow(pause: float, count: int, seen: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        time.sleep(pause)
        if seen is not None:
            seen.append(number)
        yield number


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize(("maker", "taker"), [(0.0, 0.002), (0.002, 0.0)])
def test_what_comes_out_is_what_goes_in_whoever_is_slower(maker: float, taker: float) -> None:
    with (
        ahead(slow(maker, 40), count=3, threads=1) as first,
        ahead((10 * number for number in first), count=1, threads=1) as second,
    ):
        found = [number for number in second if not time.sleep(taker)]
    assert found == [10 * number for number in range(40)]
    assert not running()


def test_no_more_than_asked_is_made_ahead() -> None:
    seen: list[int] = []
    with ahead(slow(0.0, 1000, seen), count=3, threads=1) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 5
        while len(seen) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(seen) == 5  # one taken, three that wait, one that finds no room
    assert not running()


def test_an_error_comes_behind_the_items_before_it_through_every_stage() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise MemoryError("no room")

    found: list[int] = []

    def take() -> None:
        with (
            ahead(broken(), count=4, threads=1) as first,
            ahead((2 * number for number in first), count=4, threads=1) as second,
        ):
            found.extend(second)

    with pytest.raises(MemoryError, match="no room"):
        take()
    assert found == [2]
    assert not running()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_taker_that_stops_stops_the_threads(error: type[BaseException]) -> None:
    seen: list[int] = []

    def take() -> None:
        with (
            ahead(slow(0.001, 10**9, seen), count=2, threads=1) as first,
            ahead(iter(first), count=2, threads=1) as second,
        ):
            next(second)
            raise error

    with pytest.raises(error):
        take()
    assert not running()
    assert len(seen) < 1000


def test_a_thread_has_its_own_number_of_torch_threads_and_the_caller_keeps_its() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        items = (torch.get_num_threads() for _ in range(2))
        with ahead(items, count=1, threads=2) as found:
            assert list(found) == [2, 2]
            assert torch.get_num_threads() == 3
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [3]
    finally:
        torch.set_num_threads(before)


def test_who_waits_for_an_item_when_the_block_ends_finds_no_more() -> None:
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(10)
        yield 2

    found: list[int] = []
    with ahead(items(), count=1, threads=1) as made:
        taker = threading.Thread(target=lambda: [found.append(item) for item in made], daemon=True)
        taker.start()
        while not found:
            time.sleep(0.001)
        threading.Timer(0.1, go_on.set).start()
    taker.join(10)
    assert not taker.is_alive()
    assert found in ([1], [1, 2])  # whoever was quicker to the second


def test_a_thread_that_cannot_start_leaves_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = torch.get_num_threads()
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="can't start"), ahead(iter([1]), count=1, threads=1):
        pass
    assert torch.get_num_threads() == before
