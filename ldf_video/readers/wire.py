"""Messages between a reader process and its parent: JSON, frames behind it as bare bytes.

No pickle: a clip that takes over a decoder may send messages, and run nothing in the parent.
"""

from __future__ import annotations

import json
import select
import struct
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

Header: TypeAlias = dict[str, Any]

BLOCK_FRAMES = 32
BLOCK_BYTES = 2**20
MAX_REPLY_BYTES = 2**16
"""Of the JSON that a reader may send; a command, which may list many pictures, has no limit."""

_PREFIX = struct.Struct("<II")  # bytes of JSON, bytes of payload
_MAX_UINT32 = 2**32 - 1


class WireError(Exception):
    """What came is no message of this protocol."""


class Message(NamedTuple):
    """A message of the other side.

    Attributes:
        header: the JSON object; "is" names its kind.
        payload: bytes that followed, to be used before the next message is received.
    """

    header: Header
    payload: memoryview


def frames_per_block(geometry: Geometry) -> int:
    """Returns how many frames travel together: 32, or as many as fit a MiB, at least one."""
    return max(1, min(BLOCK_FRAMES, BLOCK_BYTES // frame_bytes(geometry)))


def frame_bytes(geometry: Geometry) -> int:
    """Returns the size of a frame (height, width, 3) of uint8."""
    return geometry.height * geometry.width * 3


class Channel:
    """One end of a stream socket as a line of messages; use it from one thread each way."""

    def __init__(
        self,
        end: socket.socket,
        *,
        max_header_bytes: int = _MAX_UINT32,
        max_payload_bytes: int = 0,
    ) -> None:
        """Takes over the socket.

        Args:
            end: connected; may be blocking or not.
            max_header_bytes: of JSON that may come.
            max_payload_bytes: that may come behind it; as many are kept for it once needed.
        """
        self._end = end
        self._max_header_bytes, self._max_payload_bytes = max_header_bytes, max_payload_bytes
        self._received = self._receive_all()

    def fileno(self) -> int:
        """Returns the descriptor, for `select`."""
        return self._end.fileno()

    def send(self, header: Header, payload: memoryview | None = None, *, seconds: float) -> None:
        """Sends one message.

        Raises:
            OSError: if the other side is gone; TimeoutError if it has not taken it in `seconds`, a
                limit that only a socket that does not block has.
        """
        text = json.dumps(header).encode()
        head = _PREFIX.pack(len(text), len(payload or b"")) + text
        deadline = time.monotonic() + seconds
        for part in (memoryview(head), payload):
            while part:
                try:
                    part = part[self._end.send(part) :]  # noqa: PLW2901
                except BlockingIOError:
                    self._wait_to_send(deadline)

    def receive(self) -> Message | None:
        """Returns the next message, or None where a socket that does not block has too little yet.

        Raises:
            EOFError: if the other side is gone; then nothing more can be received.
            WireError: if what came is no message; then neither.
        """
        return next(self._received)

    def close(self) -> None:
        """Closes the socket; the other side reads an end."""
        self._end.close()

    def _receive_all(self) -> Iterator[Message | None]:
        prefix, payload = memoryview(bytearray(_PREFIX.size)), memoryview(b"")
        while True:
            yield from self._fill(prefix)
            header_bytes, payload_bytes = _PREFIX.unpack(prefix)
            if header_bytes > self._max_header_bytes or payload_bytes > self._max_payload_bytes:
                raise WireError(f"a message of {header_bytes:,} + {payload_bytes:,} bytes")
            text = memoryview(bytearray(header_bytes))
            yield from self._fill(text)
            header = _parsed(text)
            if payload_bytes and not payload:
                payload = memoryview(bytearray(self._max_payload_bytes))
            yield from self._fill(payload[:payload_bytes])
            yield Message(header, payload[:payload_bytes])

    def _fill(self, part: memoryview) -> Iterator[None]:
        """Fills memory from the socket; yields where it would block."""
        while part:
            try:
                count = self._end.recv_into(part)
            except BlockingIOError:
                yield
                continue
            except ConnectionError:
                count = 0
            if count == 0:
                raise EOFError
            part = part[count:]

    def _wait_to_send(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._end, select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("the other side takes nothing")


def geometry_to_json(geometry: Geometry) -> Header:
    """Returns a geometry as JSON can hold it."""
    fps = None if geometry.fps is None else fraction_to_json(geometry.fps)
    return {"height": geometry.height, "width": geometry.width, "crop": geometry.crop, "fps": fps}


def geometry_from_json(saved: Header) -> Geometry:
    """Returns what `geometry_to_json` was given."""
    fps = None if saved["fps"] is None else Fraction(*saved["fps"])
    return Geometry(saved["height"], saved["width"], crop=saved["crop"], fps=fps)


def fraction_to_json(value: Fraction) -> list[int]:
    """Returns numerator and denominator."""
    return [value.numerator, value.denominator]


def _parsed(text: memoryview) -> Header:
    try:
        header = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise WireError("a message that is no JSON") from error
    if not isinstance(header, dict):
        raise WireError("a message that is no JSON object")
    return header
