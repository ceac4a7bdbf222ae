"""Messages between a reader and its parent: JSON either way, frames behind it as bare bytes.

No pickle: a clip that takes over a decoder may send messages, and run nothing in the parent.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ldf_video.errors import counted

if TYPE_CHECKING:
    import socket

Header: TypeAlias = dict[str, Any]

BLOCK_FRAMES = 32
BLOCK_BYTES = 2**20

_PREFIX = struct.Struct("<II")  # bytes of JSON, bytes of frames
_MAX_UINT32 = 2**32 - 1
_NOTHING = memoryview(b"")


class WireError(Exception):
    """What came is no message, or makes no sense."""


class Message(NamedTuple):
    """A JSON object, whose "is" names its kind or "do" the command, and the bytes of frames.

    The bytes are to be used before the next message is received.
    """

    header: Header
    payload: memoryview = _NOTHING


def block_bytes(frame_bytes: int) -> int:
    """Returns the size of the frames that travel together: 32, or what fits a MiB, at least one."""
    return frame_bytes * max(1, min(BLOCK_FRAMES, BLOCK_BYTES // frame_bytes))


def send(end: socket.socket, message: Message) -> None:
    """Sends one message.

    Raises:
        OSError: if the other side is gone, or does not take it within the socket's timeout.
    """
    text = json.dumps(message.header).encode()
    end.sendall(_PREFIX.pack(len(text), len(message.payload)) + text)
    if message.payload:
        end.sendall(message.payload)


def receive(
    end: socket.socket,
    payload: memoryview = _NOTHING,
    *,
    max_header_bytes: int = _MAX_UINT32,
    patience_seconds: float = math.inf,
) -> Message:
    """Receives one message.

    Args:
        end: a socket; while this process does not run no more than one timeout of it passes.
        payload: memory for frames.
        max_header_bytes: of JSON that may come.
        patience_seconds: for how long the other side may be silent.

    Raises:
        EOFError: if the other side is gone.
        TimeoutError: if it is silent.
        WireError: if what came is no message.
    """

    def fill(part: memoryview) -> None:
        silent_seconds = 0.0
        while part:
            try:
                count = end.recv_into(part)
            except TimeoutError:
                silent_seconds += end.gettimeout() or 0.0
                if silent_seconds >= patience_seconds:
                    raise
                continue
            except ConnectionError:
                count = 0
            if count == 0:
                raise EOFError
            part, silent_seconds = part[count:], 0.0

    prefix = bytearray(_PREFIX.size)
    fill(memoryview(prefix))
    header_bytes, payload_bytes = _PREFIX.unpack(prefix)
    if header_bytes > max_header_bytes or payload_bytes > len(payload):
        raise WireError(f"a message of {header_bytes:,} + {payload_bytes:,} bytes")
    text = bytearray(header_bytes)
    fill(memoryview(text))
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("a message that is no JSON") from error
    if not isinstance(header, dict):
        raise WireError("a message that is no JSON object")
    fill(payload[:payload_bytes])
    return Message(header, payload[:payload_bytes])


def describe_damage(num_frames: int, reason: str) -> str:
    """What is said of a clip of which no more can be read."""
    return f"damaged after {counted(num_frames, 'frame')}: {reason}" if num_frames else reason
