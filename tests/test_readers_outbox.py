from __future__ import annotations

import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from clip_files import barcode, read_barcode

from ldf_video.readers import outbox as outbox_module
from ldf_video.readers.outbox import GoneError, Outbox
from ldf_video.readers.wire import Channel, frame_bytes
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = Geometry(48, 64)  # 32 frames a block


class Line:
    """An outbox, its sending thread, and the other end."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.outbox = Outbox(SIZE)
        self.channel = Channel(self.theirs, max_payload_bytes=32 * frame_bytes(SIZE))
        self.sending = threading.Thread(target=self.outbox.send_all, args=(Channel(self.ours),))

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.outbox.add(barcode(number), position=number / 256)

    def hear(self) -> dict[str, object]:
        """The next message, its frames as numbers."""
        message = self.channel.receive()
        assert message is not None
        frames = np.frombuffer(message.payload, np.uint8).reshape(-1, 48, 64, 3)
        if len(frames):
            assert message.header["num_frames"] == len(frames)
            return message.header | {"num_frames": [read_barcode(frame) for frame in frames]}
        return message.header

    def close(self) -> None:
        self.outbox.close()
        self.theirs.close()
        if self.sending.ident is not None:
            self.sending.join(10)
            assert not self.sending.is_alive()
        self.ours.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


def test_frames_travel_in_blocks_and_before_what_is_said_after_them(line: Line) -> None:
    line.sending.start()
    line.outbox.put({"is": "clip"})
    line.add(*range(40))
    line.outbox.put({"is": "clip_end"})
    assert line.hear() == {"is": "clip"}
    assert line.hear() == {"is": "frames", "num_frames": [*range(32)], "position": 31 / 256}
    assert line.hear() == {"is": "frames", "num_frames": [*range(32, 40)], "position": 39 / 256}
    assert line.hear() == {"is": "clip_end"}


def test_a_frame_does_not_wait_for_those_that_never_come(line: Line) -> None:
    line.sending.start()
    line.add(1, 2)
    assert line.hear() == {"is": "frames", "num_frames": [1, 2], "position": 2 / 256}
    line.add(3)  # a new block
    assert line.hear() == {"is": "frames", "num_frames": [3], "position": 3 / 256}


def test_the_frame_given_may_change_once_it_is_given(line: Line) -> None:
    frame = barcode(5).copy()
    line.outbox.add(frame, position=0)
    frame[:] = 0
    line.sending.start()
    assert line.hear()["num_frames"] == [5]


def test_no_more_than_four_blocks_wait(line: Line) -> None:
    given = []

    def decode() -> None:
        for number in range(200):
            line.add(number)
            given.append(number)

    decoding = threading.Thread(target=decode)
    decoding.start()
    deadline = time.monotonic() + 20
    while len(given) < 4 * 32 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert given == list(range(4 * 32))
    line.sending.start()
    heard: list[int] = []
    while len(heard) < 200:
        heard += line.hear()["num_frames"]  # type: ignore[arg-type]
    decoding.join()
    assert heard == list(range(200))


def test_words_wait_too(line: Line) -> None:
    said = []

    def say() -> None:
        for number in range(100):
            line.outbox.put({"number": number})
            said.append(number)

    saying = threading.Thread(target=say)
    saying.start()
    deadline = time.monotonic() + 20
    while len(said) < 64 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(said) == 64
    line.sending.start()
    assert [line.hear()["number"] for _ in range(100)] == list(range(100))
    saying.join()


def test_a_drained_outbox_has_sent_all(line: Line) -> None:
    line.sending.start()
    line.add(1, 2, 3)
    line.outbox.drain()
    line.theirs.setblocking(False)
    assert line.hear()["num_frames"] == [1, 2, 3]


def test_alive_is_said_now_and_then(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr(outbox_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    line.outbox = Outbox(SIZE)
    num_said = 0
    for _ in range(100):  # 10 seconds
        clock[0] += 0.1
        line.outbox.alive()
        num_said += len(line.outbox._waiting)
        line.outbox._waiting.clear()
    assert num_said == 33


@pytest.mark.parametrize("waiting", ["add", "put", "drain"])
def test_who_waits_for_nobody_is_told_so(line: Line, waiting: str) -> None:
    raised = []

    def work() -> None:
        try:
            while True:
                if waiting == "put":
                    line.outbox.put({})
                else:
                    line.add(1)
                if waiting == "drain":
                    line.outbox.drain()
        except GoneError:
            raised.append(waiting)

    working = threading.Thread(target=work)
    working.start()
    time.sleep(0.1)
    line.outbox.close()
    working.join(10)
    assert raised == [waiting]
    with pytest.raises(GoneError):
        line.outbox.put({})


def test_sending_ends_when_nobody_listens(line: Line) -> None:
    line.sending.start()
    line.theirs.close()
    line.add(1)
    line.sending.join(10)
    assert not line.sending.is_alive()
    with pytest.raises(GoneError):
        line.outbox.put({})
