"""Frames of many clips through one transform: batches of one fixed shape, several at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError

Frames = npt.NDArray[np.uint8]
Rows = npt.NDArray[Any]
Sink = Callable[[Rows], None]
"""Where rows of one clip go, in the order of its frames."""

FLUSH_SECONDS = 1.0
"""How long frames wait for a batch to fill: a kill must not lose much where reading is slow."""


class Transform(Protocol):
    """What turns batches of frames into rows.

    Attributes:
        num_lanes: batches that it takes at a time, each in a thread of its own; 0 where it is to be
            called in the thread of the caller.
    """

    @property
    def num_lanes(self) -> int: ...

    def new_batch(self, shape: tuple[int, ...]) -> Frames:
        """Memory for a batch, uint8 of this shape, to be filled again and again."""
        ...

    def begin_lane(self) -> None:
        """Called once in the thread of each lane."""
        ...

    def __call__(self, frames: Frames, num_real: int) -> Rows:
        """Frames (B, H, W, 3), the first `num_real` real -> a row for each frame of the batch."""
        ...


class Plain:
    """A function of (frames, num_real) as a transform, called where the caller is."""

    num_lanes = 0

    def __init__(self, function: Callable[[Frames, int], Rows]) -> None:
        self.function = function

    def new_batch(self, shape: tuple[int, ...]) -> Frames:
        return np.zeros(shape, np.uint8)

    def begin_lane(self) -> None: ...

    def __call__(self, frames: Frames, num_real: int) -> Rows:
        return self.function(frames, num_real)


@dataclass
class _Batch:
    """Frames, and what is to be done in turn once their rows are there."""

    frames: Frames | None = None
    count: int = 0
    steps: list[tuple[Sink, int] | Callable[[], None]] = field(default_factory=list)
    rows: Future[Rows] | None = None


class Batcher:
    """Fills batches across clips, has them transformed, and hands rows on in the order of frames.

    Frames are copied into one of a few batches that are used again and again, so memory is bounded;
    the caller waits while all of them are on their way. Rows are handed on in the thread of the
    caller, from inside its calls.
    """

    def __init__(self, transform: Transform, *, batch_size: int) -> None:
        self._transform, self._batch_size = transform, batch_size
        self._lanes: ThreadPoolExecutor | None = None
        if transform.num_lanes:
            self._lanes = ThreadPoolExecutor(
                transform.num_lanes, "lane", initializer=transform.begin_lane
            )
        self._open = _Batch()
        self._opened = 0.0
        self._on_their_way: deque[_Batch] = deque()
        self._is_handing_on = False
        self._free: list[Frames] = []

    def add(self, frames: Frames, *, to: Sink) -> None:
        """Take the next frames (n, H, W, 3) of a clip; their rows will go to its sink."""
        first = 0
        while first < len(frames):
            batch = self._with_room(frames.shape[1:])
            assert batch.frames is not None
            taken = frames[first : first + self._batch_size - batch.count]
            batch.frames[batch.count : batch.count + len(taken)] = taken
            batch.count += len(taken)
            first += len(taken)
            last = batch.steps[-1] if batch.steps else None
            if isinstance(last, tuple) and last[0] == to:
                batch.steps[-1] = (to, last[1] + len(taken))
            else:
                batch.steps.append((to, len(taken)))
            if batch.count == self._batch_size:
                self._send()

    def then(self, action: Callable[[], None]) -> None:
        """Do something once all rows so far have been handed on."""
        if self._open.count:
            self._open.steps.append(action)
        elif self._on_their_way:
            self._on_their_way[-1].steps.append(action)
        else:
            action()

    def poll(self) -> None:
        """Hand on what is ready, and let frames that have waited long go in a batch of few."""
        if self._open.count and time.monotonic() - self._opened > FLUSH_SECONDS:
            self._send()
        while self._on_their_way and self._is_ready(self._on_their_way[0]):
            self._deliver()

    def flush(self) -> None:
        """Transform what is there, and hand all of it on."""
        if self._open.count:
            self._send()
        while self._on_their_way:
            self._deliver()

    def _with_room(self, frame_shape: tuple[int, ...]) -> _Batch:
        batch = self._open
        if batch.frames is None:
            shape = (self._batch_size, *frame_shape)
            batch.frames = self._free.pop() if self._free else self._transform.new_batch(shape)
        if not batch.count:
            self._opened = time.monotonic()
        return batch

    def _send(self) -> None:
        """Let the open batch go; what lies behind its frames is whatever was there before."""
        batch, self._open = self._open, _Batch()
        assert batch.frames is not None
        if self._lanes is None:
            batch.rows = Future()
            batch.rows.set_result(self._transform(batch.frames, batch.count))
        else:
            batch.rows = self._lanes.submit(self._transform, batch.frames, batch.count)
        self._on_their_way.append(batch)
        # One more than there are lanes, so that each finds its next at once.
        while len(self._on_their_way) > self._transform.num_lanes + 1 or (
            self._lanes is None and self._on_their_way
        ):
            self._deliver()

    @staticmethod
    def _is_ready(batch: _Batch) -> bool:
        return batch.rows is not None and batch.rows.done()

    @staticmethod
    def _is_whole(batch: _Batch) -> bool:
        rows = batch.rows
        return rows is not None and not rows.cancelled() and rows.exception() is None

    def _deliver(self) -> None:
        assert self._on_their_way[0].rows is not None
        rows, first = self._on_their_way[0].rows.result(), 0
        self._is_handing_on = True
        batch = self._on_their_way.popleft()
        for step in batch.steps:
            if isinstance(step, tuple):
                sink, count = step
                sink(rows[first : first + count])
                first += count
            else:
                step()
        assert batch.frames is not None
        self._free.append(batch.frames)
        self._is_handing_on = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lanes is not None:
            self._lanes.shutdown(wait=True, cancel_futures=True)
        # After Ctrl-C what the lanes have done is kept, unless it broke into the middle of a batch.
        if isinstance(error, KeyboardInterrupt) and not self._is_handing_on:
            with suppress(LdfError):  # of a store that it broke into while it was written
                while self._on_their_way and self._is_whole(self._on_their_way[0]):
                    self._deliver()
