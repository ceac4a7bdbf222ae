"""Messages between a reader and its parent, and how a reader's wait to be sent."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ldf_video.readers.outbox import Outbox
from ldf_video.readers.wire import Message, WireError, block_bytes, receive, send
from ldf_video.readers.worker import answers
from ldf_video.sources.search import find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FRAME_BYTES = 1000


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    first, second = socket.socketpair()
    first.settimeout(20)
    second.settimeout(0.1)
    yield first, second
    first.close()
    second.close()


def as_sent(text: bytes, payload: bytes = b"") -> bytes:
    return struct.pack("<II", len(text), len(payload)) + text + payload


def test_what_is_sent_is_received_in_whatever_pieces(ends: tuple[Any, Any]) -> None:
    header = {"name": "\udcff\n\N{SNOWMAN}", "numbers": [1, 2.5, None]}  # names may be any bytes
    payload = bytes(range(250)) * 4000  # more than a socket takes at once

    def send_all() -> None:
        for byte in as_sent(json.dumps(header).encode()):
            ends[0].send(bytes([byte]))
        send(ends[0], Message({"is": "frames"}, memoryview(payload)))
        send(ends[0], Message({}))

    sending = threading.Thread(target=send_all)
    sending.start()
    memory = memoryview(bytearray(10**6))
    first = receive(ends[1], memory, patience_seconds=20)
    assert (first.header, len(first.payload)) == (header, 0)
    second = receive(ends[1], memory, patience_seconds=20)
    assert (second.header, second.payload) == ({"is": "frames"}, payload)
    assert receive(ends[1], patience_seconds=20) == ({}, b"")
    sending.join()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (as_sent(b"[1]"), "no JSON object"),
        (as_sent(b"{"), "no JSON"),
        (as_sent(b"\xff\xff"), "no JSON"),
        (as_sent(b""), "no JSON"),
        (as_sent(b"[" * 60000), "no JSON"),
        (as_sent(b"{}" + b" " * 2**16), r"65,538 \+ 0 bytes"),
        (as_sent(b"{}", b"12345"), r"2 \+ 5 bytes"),
        (b"\xff" * 8, r"4,294,967,295 \+ 4,294,967,295 bytes"),
    ],
)
def test_what_is_no_message_is_refused(ends: tuple[Any, Any], sent: bytes, reason: str) -> None:
    ends[0].sendall(sent)
    with pytest.raises(WireError, match=reason):
        receive(ends[1], memoryview(bytearray(4)), max_header_bytes=2**16)


@pytest.mark.parametrize("sent", [b"", b"\0\0", as_sent(b"{}")[:-1]])
def test_silence_and_an_end_are_known_anywhere(ends: tuple[Any, Any], sent: bytes) -> None:
    ends[0].sendall(sent)
    with pytest.raises(TimeoutError):
        receive(ends[1], patience_seconds=0.2)
    ends[0].sendall(sent)
    ends[0].close()
    with pytest.raises(EOFError):
        receive(ends[1])


@pytest.mark.parametrize(
    ("side", "expected"), [((64, 64), 32), ((1, 1), 32), ((128, 128), 21), ((360, 640), 1)]
)
def test_a_block_is_32_frames_or_a_mebibyte_or_one_frame(
    side: tuple[int, int], expected: int
) -> None:
    frame_bytes = side[0] * side[1] * 3
    assert block_bytes(frame_bytes) == expected * frame_bytes


def test_whatever_an_answer_fails_of_is_the_last_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    command = {"source": find_sources(tmp_path)[0].to_json(), "do": "look"}
    (failed,) = answers(command)  # with no "hashed"
    reason = "the reader failed: KeyError: 'hashed'"
    assert failed.header == {"is": "failed", "reason": reason, "fault": "content"}


def frame(number: int) -> Message:
    header = {"is": "frames", "num_frames": 1, "position": number / 256}
    return Message(header, memoryview(bytes([number] * FRAME_BYTES)))


def numbers_of(end: socket.socket) -> list[int] | dict[str, Any]:
    """The numbers of the frames of the next message, or its header."""
    got = receive(end, memoryview(bytearray(block_bytes(FRAME_BYTES))), patience_seconds=20)
    if not got.payload:
        return got.header
    numbers = list(got.payload[::FRAME_BYTES])
    assert got.header["num_frames"] == len(numbers) == len(got.payload) // FRAME_BYTES
    assert got.header["position"] == numbers[-1] / 256
    return numbers


def test_frames_leave_in_blocks_before_what_follows_them_or_soon(ends: tuple[Any, Any]) -> None:
    outbox = Outbox(ends[0])
    for number in range(40):
        outbox.put(frame(number))
    outbox.put(Message({"is": "clip_end"}))
    outbox.put(frame(40))
    found = [numbers_of(ends[1]) for _ in range(4)]
    assert found == [[*range(32)], [*range(32, 40)], {"is": "clip_end"}, [40]]
    outbox.put(frame(41))
    outbox.drain()
    assert numbers_of(ends[1]) == [41]


@pytest.mark.parametrize(
    ("make", "most"),
    [(frame, 4 * 32), (lambda number: Message({"number": number}), 64)],
    ids=["frames", "words"],
)
def test_what_is_not_sent_is_waited_for(
    ends: tuple[Any, Any],
    make: Callable[[int], Message],
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let, put = threading.Event(), list[int]()
    sending = "ldf_video.readers.outbox.send"
    monkeypatch.setattr(sending, lambda *message: let.wait(20) and send(*message))
    outbox = Outbox(ends[0])

    def work() -> None:
        for number in range(150):
            outbox.put(make(number))
            put.append(number)

    working = threading.Thread(target=work)
    working.start()
    deadline = time.monotonic() + 20
    while len(put) < most and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert most <= len(put) <= most + 1  # one may be half sent
    let.set()
    found: list[int] = []
    while len(found) < 150:
        got = numbers_of(ends[1])
        found += [got["number"]] if isinstance(got, dict) else got
    assert found == list(range(150))
    working.join()
