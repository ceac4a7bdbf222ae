"""Batches of one shape across clips: rows in order, whichever batch is done first."""

from __future__ import annotations

import threading
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ldf_video.intake import batches as room
from ldf_video.intake.batches import RowsMade, Transform, make_rows
from ldf_video.readers.reading import Clip, ClipEnded, FramesRead
from ldf_video.sources.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ldf_video.intake.batches import Item
    from ldf_video.readers.reading import Event

SHAPE = (2, 3, 3)
A, B = (
    Clip(Source(Path("clips"), name, 1, 1), name, None, Fraction(25), "") for name in ("a", "b")
)


def read(clip: Clip, *numbers: int) -> FramesRead:
    """A frame of a clip for each number, filled with it."""
    return FramesRead(clip, np.stack([np.full(SHAPE, n, np.uint8) for n in numbers]), 0.5)


def numbers_of(item: Item) -> list[int]:
    return [int(row.flat[0]) for row in item.rows] if isinstance(item, RowsMade) else []


def rows_of(
    events: Iterable[Event | None],
    transform: Transform,
    *,
    batch_size: int,
    kept: list[int] | None = None,
) -> list[int]:
    """The numbers of all rows; those before an error are in `kept`."""
    kept = [] if kept is None else kept
    for item in make_rows(events, transform, batch_size=batch_size):
        kept += numbers_of(item)
    return kept


class InTurn(Transform):
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
def test_rows_take_the_place_of_frames(num_lanes: int, batch_size: int) -> None:
    events: list[Event] = []
    for block in range(10):
        events.append(read(A, *range(7 * block, 7 * block + 7)))
        events.append(read(B, 100 + block))
        events.append(ClipEnded(A, block, ""))
    found: dict[str, list[int]] = {"a": [], "b": []}
    order = []
    for item in make_rows(events, InTurn(num_lanes), batch_size=batch_size):
        if isinstance(item, RowsMade):
            found[item.clip.clip_id] += numbers_of(item)
            assert item.position == 0.5
        elif isinstance(item, ClipEnded):
            order.append((item.num_frames, len(found["a"]), len(found["b"])))
    assert found == {"a": list(range(70)), "b": list(range(100, 110))}
    # Neither before the rows that came before it, nor after a row that came later.
    assert order == [(block, 7 * block + 7, block + 1) for block in range(10)]


def test_batches_have_one_shape_and_their_memory_is_used_again() -> None:
    transform = InTurn(2)
    events = (read(A, number) for number in range(35))
    assert rows_of(events, transform, batch_size=4) == list(range(35))
    assert sorted(transform.seen) == [((4, *SHAPE), 3), *[((4, *SHAPE), 4)] * 8]
    assert transform.made <= 4  # one open, one a lane, one that waits
    assert transform.num_begun <= 2


def test_a_batch_that_is_done_first_waits_for_those_before_it() -> None:
    transform = InTurn(2)
    transform.gates[0] = threading.Event()
    with closing(make_rows([read(A, 0, 1, 2, 3), None], transform, batch_size=2)) as items:
        assert numbers_of(next(items)) == []
        assert transform.second.wait(30)
        assert numbers_of(next(items)) == []
        transform.gates[0].set()
        assert [number for item in items for number in numbers_of(item)] == [0, 1, 2, 3]


def test_frames_that_wait_long_go_in_a_batch_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    transform, found = InTurn(0), list[int]()

    def events() -> Iterator[Event | None]:
        yield read(A, 1, 2)
        now[0] = 0.9
        yield None
        assert found == []
        now[0] = 1.1
        yield None
        assert found == [1, 2]
        yield read(A, 3)
        yield None  # the wait is that of the open batch
        assert found == [1, 2]

    assert rows_of(events(), transform, batch_size=8, kept=found) == [1, 2, 3]
    assert transform.seen == [((8, *SHAPE), 2), ((8, *SHAPE), 1)]


@pytest.mark.parametrize("num_lanes", [0, 2])
def test_an_error_of_a_lane_comes_to_the_caller(num_lanes: int) -> None:
    class Broken(InTurn):
        def __call__(self, frames: np.ndarray, num_real: int) -> np.ndarray:
            if frames.flat[0] == 4:
                raise ArithmeticError("no")
            return frames.copy()

    found: list[int] = []
    with pytest.raises(ArithmeticError):
        rows_of([read(A, *range(10))], Broken(num_lanes), batch_size=2, kept=found)
    assert found == [0, 1, 2, 3]  # what came before is handed on


def interrupted(*events: Event) -> Iterator[Event]:
    yield from events
    raise KeyboardInterrupt


def test_after_ctrl_c_what_is_done_is_handed_on() -> None:
    found: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        rows_of(interrupted(read(A, 0, 1, 2, 3, 4)), InTurn(1), batch_size=2, kept=found)
    assert found in ([0, 1, 2, 3], [0, 1])  # a batch that no lane had begun is let go


def test_ctrl_c_within_a_commit_stays_ctrl_c() -> None:
    """It breaks into the store while a source is set; the store then takes no rows any more."""
    transform = InTurn(1)
    transform.gates[1] = threading.Event()

    def events() -> Iterator[Event]:
        yield read(A, 1, 2, 3, 4)
        transform.gates[1].set()
        raise KeyboardInterrupt

    def write() -> None:
        with closing(make_rows(events(), transform, batch_size=2)) as items:
            for item in items:
                if isinstance(item, RowsMade):
                    raise OSError("the writer has ended")

    with pytest.raises(KeyboardInterrupt):
        write()
