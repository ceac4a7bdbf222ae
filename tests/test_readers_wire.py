from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from ldf_video.readers.wire import (
    Channel,
    WireError,
    frame_bytes,
    frames_per_block,
    geometry_from_json,
    geometry_to_json,
)
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair()
    yield first, second
    first.close()
    second.close()


def message(text: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<II", len(text), len(payload)) + text + payload


def test_what_is_sent_is_received(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = Channel(ends[0]), Channel(ends[1], max_payload_bytes=5)
    name = "\udcff\n\N{SNOWMAN}"  # a file's name may be any bytes
    sender.send({"name": name, "numbers": [1, 2.5, None]}, seconds=1)
    sender.send({"is": "frames"}, memoryview(b"abcde"), seconds=1)
    sender.send({"is": "frames"}, memoryview(b"xyz"), seconds=1)
    first = receiver.receive()
    assert first is not None
    assert first.header == {"name": name, "numbers": [1, 2.5, None]}
    assert bytes(first.payload) == b""
    for payload in (b"abcde", b"xyz"):
        got = receiver.receive()
        assert got is not None
        assert (got.header, bytes(got.payload)) == ({"is": "frames"}, payload)


def test_a_message_may_come_byte_by_byte(ends: tuple[socket.socket, socket.socket]) -> None:
    receiver = Channel(ends[1], max_payload_bytes=4)
    ends[1].setblocking(False)
    sent = message(b'{"a": 1}', b"pixl")
    for byte in sent[:-1]:
        ends[0].send(bytes([byte]))
        assert receiver.receive() is None
    ends[0].send(sent[-1:])
    got = receiver.receive()
    assert got is not None
    assert (got.header, bytes(got.payload)) == ({"a": 1}, b"pixl")
    assert receiver.receive() is None


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (message(b"[1]"), "no JSON object"),
        (message(b"{"), "no JSON"),
        (message(b"\xff\xff"), "no JSON"),
        (message(b""), "no JSON"),
        (message(b"[" * 60000), "no JSON"),
        (message(b"{}" + b" " * 2**16), r"65,538 \+ 0 bytes"),
        (message(b"{}", b"12345"), r"2 \+ 5 bytes"),
        (b"\xff" * 8, r"4,294,967,295 \+ 4,294,967,295 bytes"),
    ],
)
def test_what_is_no_message_is_refused(
    ends: tuple[socket.socket, socket.socket], sent: bytes, reason: str
) -> None:
    receiver = Channel(ends[1], max_header_bytes=2**16, max_payload_bytes=4)
    ends[0].sendall(sent)
    with pytest.raises(WireError, match=reason):
        receiver.receive()


@pytest.mark.parametrize("sent", [b"", b"\0\0", message(b"{}")[:-1]])
def test_an_end_is_an_end_anywhere(ends: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    receiver = Channel(ends[1])
    ends[0].sendall(sent)
    ends[0].close()
    with pytest.raises(EOFError):
        receiver.receive()


def test_who_takes_nothing_is_not_waited_for_without_end(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].setblocking(False)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Channel(ends[0]).send({"text": "x" * 10**7}, seconds=0.2)
    assert time.monotonic() - began >= 0.2
    ends[1].close()
    with pytest.raises(BrokenPipeError):
        Channel(ends[0]).send({}, seconds=0.2)


def test_a_large_message_goes_through_a_small_socket(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].setblocking(False)
    ends[1].setblocking(False)
    sender, receiver = Channel(ends[0]), Channel(ends[1], max_payload_bytes=10**6)
    payload = bytes(range(250)) * 4000
    sending = threading.Thread(
        target=sender.send, args=({"is": "frames"}, memoryview(payload)), kwargs={"seconds": 20}
    )
    sending.start()
    while (got := receiver.receive()) is None:
        select.select([receiver], [], [], 20)
    sending.join()
    assert bytes(got.payload) == payload


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(64, 64, 32), (1, 1, 32), (128, 128, 21), (360, 640, 1), (4096, 4096, 1)],
)
def test_a_block_is_32_frames_or_a_mebibyte_or_one_frame(
    height: int, width: int, expected: int
) -> None:
    geometry = Geometry(height, width)
    assert frame_bytes(geometry) == height * width * 3
    assert frames_per_block(geometry) == expected


@pytest.mark.parametrize("fps", [None, Fraction(30000, 1001)])
def test_a_geometry_goes_through_json(fps: Fraction | None) -> None:
    geometry = Geometry(48, 64, crop="none", fps=fps)
    assert geometry_from_json(json.loads(json.dumps(geometry_to_json(geometry)))) == geometry
