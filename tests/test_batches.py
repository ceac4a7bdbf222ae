"""Batches of one shape across clips: rows in order, whichever batch is done first."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from ldf_video.errors import StoreError
from ldf_video.intake import batches as room
from ldf_video.intake.batches import Batcher, Plain

SHAPE = (2, 3, 3)


def numbered(*numbers: int) -> np.ndarray:
    """A frame for each number, filled with it."""
    return np.stack([np.full(SHAPE, number, np.uint8) for number in numbers])


class Sink:
    """Keeps the numbers of the rows that it gets."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def take(self, rows: np.ndarray) -> None:
        self.numbers += [int(row.flat[0]) for row in rows]


class InTurn:
    """Lanes that finish only when they are let, and note what they saw."""

    def __init__(self, num_lanes: int) -> None:
        self.num_lanes = num_lanes
        self.num_begun = 0
        self.seen: list[tuple[tuple[int, ...], int]] = []
        self.made = 0
        self.gates: dict[int, threading.Event] = {}
        self.second = threading.Event()

    def new_batch(self, shape: tuple[int, ...]) -> np.ndarray:
        self.made += 1
        return np.zeros(shape, np.uint8)

    def begin_lane(self) -> None:
        self.num_begun += 1

    def __call__(self, frames: np.ndarray, num_real: int) -> np.ndarray:
        self.seen.append((frames.shape, num_real))
        if len(self.seen) == 2:
            self.second.set()
        gate = self.gates.get(int(frames.flat[0]))
        if gate is not None:
            assert gate.wait(30)
        return frames.copy()


@pytest.mark.parametrize("num_lanes", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_rows_go_to_their_clips_in_order(num_lanes: int, batch_size: int) -> None:
    a, b, order = Sink(), Sink(), []
    with Batcher(InTurn(num_lanes), batch_size=batch_size) as batcher:
        for block in range(10):
            batcher.add(numbered(*range(7 * block, 7 * block + 7)), to=a.take)
            batcher.add(numbered(100 + block), to=b.take)
            batcher.then(lambda block=block: order.append((block, len(a.numbers), len(b.numbers))))
        batcher.flush()
    assert a.numbers == list(range(70))
    assert b.numbers == list(range(100, 110))
    # Neither before the rows that came before it, nor after a row that came later.
    assert order == [(block, 7 * block + 7, block + 1) for block in range(10)]


def test_batches_have_one_shape_and_their_memory_is_used_again() -> None:
    transform, sink = InTurn(2), Sink()
    with Batcher(transform, batch_size=4) as batcher:
        for number in range(35):
            batcher.add(numbered(number), to=sink.take)
        batcher.flush()
    assert sorted(transform.seen) == [((4, *SHAPE), 3), *[((4, *SHAPE), 4)] * 8]
    assert sink.numbers == list(range(35))
    assert transform.made <= 4  # one open, one a lane, one that waits
    assert transform.num_begun <= 2


def test_a_batch_that_is_done_first_waits_for_those_before_it() -> None:
    transform, sink = InTurn(2), Sink()
    transform.gates[0] = threading.Event()
    with Batcher(transform, batch_size=2) as batcher:
        batcher.add(numbered(0, 1, 2, 3), to=sink.take)
        assert transform.second.wait(30)
        batcher.poll()
        assert sink.numbers == []
        transform.gates[0].set()
        batcher.flush()
    assert sink.numbers == [0, 1, 2, 3]


def test_the_caller_waits_when_all_lanes_are_busy() -> None:
    transform, sink = InTurn(1), Sink()
    transform.gates = {number: threading.Event() for number in range(6)}
    done = threading.Event()

    def work() -> None:
        with Batcher(transform, batch_size=1) as batcher:
            for number in range(6):
                batcher.add(numbered(number), to=sink.take)
            batcher.flush()
        done.set()

    threading.Thread(target=work).start()
    for gate in transform.gates.values():
        assert transform.made <= 3
        gate.set()
    assert done.wait(30)
    assert sink.numbers == list(range(6))


def test_frames_that_wait_long_go_in_a_batch_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    transform, sink = InTurn(0), Sink()
    with Batcher(transform, batch_size=8) as batcher:
        batcher.add(numbered(1, 2), to=sink.take)
        now[0] = 0.9
        batcher.poll()
        assert sink.numbers == []
        now[0] = 1.1
        batcher.poll()
        assert sink.numbers == [1, 2]
        batcher.add(numbered(3), to=sink.take)
        batcher.poll()  # the wait is that of the open batch
        assert sink.numbers == [1, 2]
        batcher.flush()
    assert transform.seen == [((8, *SHAPE), 2), ((8, *SHAPE), 1)]


def test_an_error_of_a_lane_comes_to_the_caller() -> None:
    class Broken(InTurn):
        def __call__(self, frames: np.ndarray, num_real: int) -> np.ndarray:
            if frames.flat[0] == 4:
                raise ArithmeticError("no")
            return frames.copy()

    sink = Sink()

    def work(num_lanes: int) -> None:
        with Batcher(Broken(num_lanes), batch_size=2) as batcher:
            batcher.add(numbered(*range(10)), to=sink.take)
            batcher.flush()

    for num_lanes in (0, 2):
        sink.numbers.clear()
        with pytest.raises(ArithmeticError):
            work(num_lanes)
        assert sink.numbers == [0, 1, 2, 3]  # what came before is handed on


def test_after_ctrl_c_what_is_done_is_handed_on() -> None:
    transform, sink = InTurn(1), Sink()

    def interrupted(*, within: bool) -> None:
        with Batcher(transform, batch_size=2) as batcher:
            batcher.add(numbered(0, 1, 2, 3, 4), to=sink.take)
            if within:
                batcher.then(stop)
                batcher.flush()
            stop()

    def stop() -> None:
        raise KeyboardInterrupt

    for within, kept in ((False, [0, 1, 2, 3]), (True, [0, 1, 2, 3, 4])):
        sink.numbers.clear()
        with pytest.raises(KeyboardInterrupt):
            interrupted(within=within)
        # A batch that no lane had begun is let go.
        assert sink.numbers == kept or (not within and sink.numbers == kept[:2])


def test_ctrl_c_within_a_commit_stays_ctrl_c() -> None:
    def refuse(rows: np.ndarray) -> None:
        raise StoreError("the writer has ended")

    def interrupted() -> None:
        transform = InTurn(1)
        with Batcher(transform, batch_size=2) as batcher:
            batcher.add(numbered(1, 2, 3, 4), to=refuse)
            assert transform.second.wait(30)  # so the first is done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_function_is_a_transform() -> None:
    calls: list[Any] = []

    def double(frames: np.ndarray, num_real: int) -> np.ndarray:
        calls.append(num_real)
        return 2 * frames

    sink = Sink()
    with Batcher(Plain(double), batch_size=2) as batcher:
        batcher.then(lambda: calls.append("at once"))
        batcher.add(numbered(1, 2, 3), to=sink.take)
        batcher.flush()
    assert sink.numbers == [2, 4, 6]
    assert calls == ["at once", 2, 1]
