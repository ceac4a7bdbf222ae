"""Frames of many clips through one transform: batches of one fixed shape, several at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import Conditions, Values
from ldf_video.readers.reading import Clip, Event, FramesRead

Frames: TypeAlias = npt.NDArray[np.uint8]
Rows: TypeAlias = npt.NDArray[Any]

FLUSH_SECONDS = 1.0
"""How long frames wait for a batch to fill: a kill must not lose much where reading is slow."""


class Transform:
    """What turns batches of frames into rows; this one leaves them as they are.

    Attributes:
        num_lanes: batches that it takes at a time, each in a thread of its own; 0 where it is to be
            called in the thread of the caller.
    """

    num_lanes = 0

    def new_batch(self, shape: tuple[int, ...]) -> Frames:
        """Memory for a batch, uint8 of this shape, to be filled again and again."""
        return np.zeros(shape, np.uint8)

    def begin_lane(self) -> None:
        """Called once in the thread of each lane."""

    def __call__(self, frames: Frames, num_real: int) -> Rows:
        """Frames (B, H, W, 3), the first `num_real` real -> a row for each frame of the batch."""
        return frames


@dataclass(frozen=True)
class RowsMade:
    """The next rows of a clip, one for each of its frames.

    Attributes:
        clip: that they belong to.
        rows: shape (n, *item_shape), n at least 1; valid until the next item is asked for.
        position: how much of the source the rows so far are, in [0, 1].
        conditions: what is known of their frames; None where nothing is.
    """

    clip: Clip
    rows: Rows
    position: float
    conditions: Conditions | None = None


Item: TypeAlias = Event | RowsMade | None


@dataclass
class _Part:
    """The next frames in a batch of one clip."""

    clip: Clip
    position: float
    count: int = 0
    known: list[Values] = field(default_factory=list)

    def conditions(self) -> Conditions | None:
        if not self.known:
            return None
        return Conditions(self.clip.columns, np.concatenate(self.known))


@dataclass
class _Batch:
    """Frames, and in order whose they are and the events between them."""

    frames: Frames
    opened: float
    count: int = 0
    contents: list[_Part | Event] = field(default_factory=list)
    rows: Future[Rows] = field(default_factory=Future)


def make_rows(
    events: Iterable[Event | None], transform: Transform, *, batch_size: int
) -> Generator[Item, None, None]:
    """Pass events on, with rows in place of frames.

    Batches are filled across clips and transformed several at a time. Frames are copied into one of
    a few batches that are used again and again, so memory is bounded: while all of them are full,
    no event is asked for.

    Args:
        events: of a `ReaderPool`; None for a moment without an event.
        transform: of batches of frames.
        batch_size: frames a batch, of which the last may be stale and are dropped.

    Yields:
        The same events in the same order, each frame's row in its place; None between them, so that
        the caller may do something else now and then. After a Ctrl-C while events are awaited, what
        the lanes have done comes before the KeyboardInterrupt.
    """
    batcher = _Batcher(transform, batch_size)
    try:
        for event in events:
            if isinstance(event, FramesRead):
                yield from batcher.add(event)
            elif event is not None:
                yield from batcher.queue(event)
            yield from batcher.deliver_ready()
            yield None
        yield from batcher.flush()
    except KeyboardInterrupt as interrupt:
        batcher.end_lanes()
        try:
            yield from batcher.deliver_done()
        except GeneratorExit:  # it broke into the store too, which takes no more rows
            raise interrupt from None
        raise
    finally:
        batcher.end_lanes()


class _Batcher:
    """The batch that is filled, and those on their way through the transform."""

    def __init__(self, transform: Transform, batch_size: int) -> None:
        self._transform, self._batch_size = transform, batch_size
        self._lanes: ThreadPoolExecutor | None = None
        if transform.num_lanes:
            self._lanes = ThreadPoolExecutor(
                transform.num_lanes, "lane", initializer=transform.begin_lane
            )
        self._open: _Batch | None = None  # with a frame at least
        self._under_way: deque[_Batch] = deque()
        self._is_delivering = False
        self._free: list[Frames] = []

    def add(self, event: FramesRead) -> Iterator[Item]:
        """Copy frames (n, H, W, 3) into batches; yields what leaves them meanwhile."""
        frames, done = event.frames, 0
        while len(frames):
            if self._open is None:
                shape = (self._batch_size, *frames.shape[1:])
                memory = self._free.pop() if self._free else self._transform.new_batch(shape)
                self._open = _Batch(memory, time.monotonic())
            batch = self._open
            taken = frames[: self._batch_size - batch.count]
            batch.frames[batch.count : batch.count + len(taken)] = taken
            batch.count += len(taken)
            frames = frames[len(taken) :]
            last = batch.contents[-1] if batch.contents else None
            if not (isinstance(last, _Part) and last.clip is event.clip):
                last = _Part(event.clip, event.position)
                batch.contents.append(last)
            last.count += len(taken)
            if event.conditions is not None:
                last.known.append(event.conditions.values[done : done + len(taken)])
            done += len(taken)
            last.position = event.position
            if batch.count == self._batch_size:
                self._send(batch)
                # One more than there are lanes, so that each finds its next at once.
                most = self._transform.num_lanes + 1 if self._lanes else 0
                while len(self._under_way) > most:
                    yield from self._deliver()

    def queue(self, event: Event) -> Iterator[Item]:
        """Yield an event once the rows of all frames before it have been."""
        if self._open is not None:
            self._open.contents.append(event)
        elif self._under_way:
            self._under_way[-1].contents.append(event)
        else:
            yield event

    def deliver_ready(self) -> Iterator[Item]:
        """Yield what is done, and let frames that have waited long go in a batch of few."""
        if self._open is not None and time.monotonic() - self._open.opened > FLUSH_SECONDS:
            self._send(self._open)
        while self._under_way and self._under_way[0].rows.done():
            yield from self._deliver()

    def flush(self) -> Iterator[Item]:
        """Transform what is there, and yield all of it."""
        if self._open is not None:
            self._send(self._open)
        while self._under_way:
            yield from self._deliver()

    def deliver_done(self) -> Iterator[Item]:
        """Yield what the lanes did before a Ctrl-C, unless it broke into the middle of a batch."""
        while not self._is_delivering and self._under_way and _is_whole(self._under_way[0].rows):
            yield from self._deliver()

    def end_lanes(self) -> None:
        """Wait for the batches that lanes have begun, and drop the others."""
        if self._lanes is not None:
            self._lanes.shutdown(wait=True, cancel_futures=True)

    def _send(self, batch: _Batch) -> None:
        """Let the open batch go; behind its last frame lies whatever was there before."""
        self._open = None
        if self._lanes is None:
            batch.rows.set_result(self._transform(batch.frames, batch.count))
        else:
            batch.rows = self._lanes.submit(self._transform, batch.frames, batch.count)
        self._under_way.append(batch)

    def _deliver(self) -> Iterator[Item]:
        rows, first = self._under_way[0].rows.result(), 0
        self._is_delivering = True
        batch = self._under_way.popleft()
        for content in batch.contents:
            if isinstance(content, _Part):
                part = rows[first : first + content.count]
                yield RowsMade(content.clip, part, content.position, content.conditions())
                first += content.count
            else:
                yield content
        self._free.append(batch.frames)
        self._is_delivering = False


def _is_whole(rows: Future[Rows]) -> bool:
    return rows.done() and not rows.cancelled() and rows.exception() is None
