"""What a reader has to say, on its way from the thread that decodes to one that sends."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ldf_video.readers.wire import BLOCK_BYTES, Message, block_bytes, send

if TYPE_CHECKING:
    import socket

_FLUSH_SECONDS = 0.25
_ALIVE_SECONDS = 0.25
_LOOK_SECONDS = 0.1
_MAX_WAITING = 64  # messages without frames are small; still there shall be an end to them


class Outbox:
    """Messages on their way from the thread that decodes to one that sends.

    Frames are gathered in a few blocks, each used again once it is sent, so decoding goes on while
    the parent is busy. A block leaves when it is full, before any other message, and at the latest
    a quarter of a second after its first frame, even if the decoder hangs then.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Message, memoryview | None]] = deque()  # with the block used
        self._is_sending = False
        self._free: list[memoryview] = []
        self._num_blocks = 0
        self._filling: memoryview | None = None
        self._num_frames, self._num_bytes = 0, 0  # in the block that is filled
        self._position, self._filling_since = 0.0, 0.0
        self._told: list[list[float | None]] = []  # of the frames in it
        self._last_message = time.monotonic()
        threading.Thread(target=self._send_all, daemon=True).start()

    def put(self, message: Message) -> None:
        """Sends a message after all before it; copies a frame; waits while much is unsent."""
        with self._changed:
            if message.payload:
                self._add_frame(message)
            else:
                self._seal()
                self._changed.wait_for(lambda: len(self._waiting) < _MAX_WAITING)
                self._append(message, None)

    def alive(self) -> None:
        """Sends a sign of life, now and then, while work goes on without a frame."""
        if time.monotonic() - self._last_message > _ALIVE_SECONDS:
            self.put(Message({"is": "alive"}))

    def drain(self) -> None:
        """Waits until all has been sent."""
        with self._changed:
            self._seal()
            self._changed.wait_for(lambda: not self._waiting and not self._is_sending)

    def _send_all(self) -> None:
        while True:
            message, block = self._next()
            try:
                send(self._end, message)
            except OSError:
                os._exit(0)  # the parent is gone
            with self._changed:
                self._is_sending = False
                if block is not None:
                    self._free.append(block)
                self._changed.notify_all()

    def _next(self) -> tuple[Message, memoryview | None]:
        with self._changed:
            while not self._waiting:
                if time.monotonic() - self._filling_since > _FLUSH_SECONDS - _LOOK_SECONDS:
                    self._seal()
                if not self._waiting:
                    # To look now and then is cheaper than to be woken by each block's first frame.
                    self._changed.wait(_LOOK_SECONDS)
            self._is_sending = True
            return self._waiting.popleft()

    # Called with the lock held.

    def _add_frame(self, message: Message) -> None:
        frame_bytes = len(message.payload)
        if self._filling is None:
            if not self._free and self._num_blocks < (4 if frame_bytes <= BLOCK_BYTES else 2):
                self._num_blocks += 1
                self._free.append(memoryview(bytearray(block_bytes(frame_bytes))))
            self._changed.wait_for(lambda: bool(self._free))
            self._filling, self._filling_since = self._free.pop(), time.monotonic()
        self._filling[self._num_bytes : self._num_bytes + frame_bytes] = message.payload
        self._num_frames += 1
        self._num_bytes += frame_bytes
        self._position = message.header["position"]
        self._told += message.header.get("told", ())
        if self._num_bytes == len(self._filling):
            self._seal()

    def _seal(self) -> None:
        if self._filling is None:
            return
        header = {"is": "frames", "num_frames": self._num_frames, "position": self._position}
        if self._told:
            header["told"] = self._told
        self._append(Message(header, self._filling[: self._num_bytes]), self._filling)
        self._filling, self._num_frames, self._num_bytes, self._told = None, 0, 0, []

    def _append(self, message: Message, block: memoryview | None) -> None:
        self._waiting.append((message, block))
        self._last_message = time.monotonic()
        self._changed.notify_all()
