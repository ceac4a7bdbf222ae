"""What a reader has to say: it decodes on while the other side is busy, a few blocks ahead."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ldf_video.readers.wire import BLOCK_BYTES, frame_bytes, frames_per_block

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ldf_video.readers.wire import Channel, Header
    from ldf_video.video.geometry import Geometry

FLUSH_SECONDS = 0.25
ALIVE_SECONDS = 0.25
_LOOK_SECONDS = 0.1
_MAX_WAITING = 64  # messages without frames are small; still there shall be an end to them


class GoneError(Exception):
    """Nobody listens any more."""


class _Item(NamedTuple):
    header: Header
    block: NDArray[np.uint8] | None = None


class Outbox:
    """Messages on their way from the thread that decodes to the thread that sends.

    Frames are gathered in blocks, of which there are few, each used again once it is sent. A block
    leaves when it is full, when something else is said after it, and at the latest a quarter of a
    second after its first frame, even if the decoder hangs then.
    """

    def __init__(self, geometry: Geometry) -> None:
        """Makes room for a few blocks; memory is touched as they fill."""
        num_blocks = 4 if frame_bytes(geometry) <= BLOCK_BYTES else 2
        shape = (frames_per_block(geometry), geometry.height, geometry.width, 3)
        self._free = [np.empty(shape, np.uint8) for _ in range(num_blocks)]
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._filling: NDArray[np.uint8] | None = None
        self._num_filled, self._position, self._filling_since = 0, 0.0, 0.0
        self._is_sending = self._is_closed = False
        self._last_word = time.monotonic()

    # -- the side that decodes

    def put(self, header: Header) -> None:
        """Says something, after all frames so far; waits while much is still to be sent.

        Raises:
            GoneError: if nobody listens any more.
        """
        with self._changed:
            self._seal()
            self._wait_until(lambda: len(self._waiting) < _MAX_WAITING)
            self._append(_Item(header))

    def add(self, frame: NDArray[np.uint8], *, position: float) -> None:
        """Gives a frame (height, width, 3), which is copied; waits while all blocks are full.

        Raises:
            GoneError: if nobody listens any more.
        """
        with self._changed:
            if self._filling is None:
                self._wait_until(lambda: bool(self._free))
                self._filling, self._filling_since = self._free.pop(), time.monotonic()
            self._filling[self._num_filled] = frame
            self._num_filled += 1
            self._position = position
            if self._num_filled == len(self._filling):
                self._seal()

    def alive(self) -> None:
        """Says, now and then, that work goes on though there is nothing to give.

        Raises:
            GoneError: if nobody listens any more.
        """
        if time.monotonic() - self._last_word > ALIVE_SECONDS:
            self.put({"is": "alive"})

    def drain(self) -> None:
        """Waits until all has been sent.

        Raises:
            GoneError: if nobody listens any more.
        """
        with self._changed:
            self._seal()
            self._wait_until(lambda: not self._waiting and not self._is_sending)

    # -- the side that sends

    def send_all(self, channel: Channel) -> None:
        """Sends whatever comes, until the outbox is closed or nobody listens."""
        while (item := self._next()) is not None:
            payload = None
            if item.block is not None:
                payload = item.block[: item.header["num_frames"]].data.cast("B")
            try:
                channel.send(item.header, payload, seconds=0.0)
            except OSError:
                self.close()
            with self._changed:
                self._is_sending = False
                if item.block is not None:
                    self._free.append(item.block)
                self._changed.notify_all()

    def close(self) -> None:
        """Ends both sides; what was not sent is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _next(self) -> _Item | None:
        with self._changed:
            while not self._is_closed:
                age = time.monotonic() - self._filling_since
                if self._num_filled and not self._waiting and age > FLUSH_SECONDS - _LOOK_SECONDS:
                    self._seal()
                if self._waiting:
                    self._is_sending = True
                    return self._waiting.popleft()
                # To look now and then is cheaper than to be woken by each block's first frame.
                self._changed.wait(_LOOK_SECONDS)
            return None

    # -- both, with the lock held

    def _seal(self) -> None:
        if self._num_filled == 0:
            return
        header = {"is": "frames", "num_frames": self._num_filled, "position": self._position}
        self._append(_Item(header, self._filling))
        self._filling, self._num_filled = None, 0

    def _append(self, item: _Item) -> None:
        self._waiting.append(item)
        self._last_word = time.monotonic()
        self._changed.notify_all()

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: is_so() or self._is_closed)
        if self._is_closed:
            raise GoneError
