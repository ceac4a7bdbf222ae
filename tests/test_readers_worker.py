from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, read_barcode, write_clip

from ldf_video.readers import worker
from ldf_video.readers.wire import Channel, frame_bytes, geometry_to_json
from ldf_video.readers.worker import MEMORY_MIB, OOM_SCORE, GoneError, Outbox, serve
from ldf_video.video.geometry import Geometry
from ldf_video.video.sources import find_sources, source_digest, source_stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ldf_video.video.sources import Source

SIZE = Geometry(48, 64)
SETUP = {"geometry": geometry_to_json(SIZE), "reader": "auto"}


class Served:
    """A reader in a thread."""

    def __init__(self) -> None:
        end, theirs = socket.socketpair()
        self.end, self.gone = end, threading.Event()
        self.channel = Channel(end, max_payload_bytes=2**20)
        self.thread = threading.Thread(
            target=serve, args=(theirs,), kwargs={"on_gone": self.gone.set}
        )
        self.thread.start()

    def tell(self, command: dict[str, Any]) -> None:
        self.channel.send(command, seconds=0)

    def hear(self) -> dict[str, Any]:
        message = self.channel.receive()
        assert message is not None
        return message.header

    def open(self, source: Source, first_frames: list[int] | None, *, careful: bool) -> None:
        self.tell(
            {
                "do": "open",
                "source": source.to_json(),
                "stamp": source_stamp(source),
                "first_frames": first_frames,
                "threads": 1,
                "careful": careful,
            }
        )


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.channel.close()
    served.thread.join(10)
    assert not served.thread.is_alive()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    write_clip(tmp_path / "a.mkv", [barcode(k) for k in range(40)], **LOSSLESS)
    return find_sources(tmp_path)[0]


def test_a_source_is_looked_at_and_opened(served: Served, source: Source) -> None:
    served.tell(SETUP)
    assert served.hear() == {"is": "ready"}
    served.tell({"do": "look", "source": source.to_json()})
    assert served.hear() == {
        "is": "digested",
        "digest": source_digest(source),
        "num_clips": None,
        "stamp": source_stamp(source),
    }
    served.open(source, [0], careful=False)
    assert served.hear() == {
        "is": "clip",
        "index": None,
        "fps": [25, 1],
        "first_frame": 0,
        "why_pyav": "",
    }
    assert [served.hear()["num_frames"] for _ in range(2)] == [32, 8]
    assert served.hear() == {"is": "clip_end", "damage": ""}
    assert served.hear() == {"is": "source_end"}


def test_with_care_each_frame_leaves_before_the_next(served: Served, source: Source) -> None:
    served.tell(SETUP)
    served.open(source, [37], careful=True)
    assert [served.hear()["is"] for _ in range(2)] == ["ready", "clip"]
    assert [served.hear()["num_frames"] for _ in range(3)] == [1, 1, 1]
    assert served.hear() == {"is": "clip_end", "damage": ""}


def test_the_clips_of_an_array_are_counted(served: Served, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 2, 4, 4, 3), np.uint8))
    served.tell(SETUP)
    served.tell({"do": "look", "source": find_sources(tmp_path)[0].to_json()})
    assert [served.hear().get("num_clips") for _ in range(2)] == [None, 5]


def test_a_fault_is_told_and_the_next_command_done(
    served: Served, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Source, **options: object) -> str:
        raise IndexError("out of\nrange")

    served.tell(SETUP)
    assert served.hear() == {"is": "ready"}
    with monkeypatch.context() as patch:
        patch.setattr(worker, "source_digest", fail)
        served.tell({"do": "look", "source": source.to_json()})
        reason = "the reader failed: IndexError: out of range"
        assert served.hear() == {"is": "failed", "reason": reason, "fault": "content"}
    source.path.unlink()
    served.tell({"do": "look", "source": source.to_json()})
    reason = "cannot be read: No such file or directory"
    assert served.hear() == {"is": "failed", "reason": reason, "fault": "content"}


def test_it_ends_when_the_other_side_does(served: Served, source: Source) -> None:
    served.tell(SETUP)
    served.open(source, [0], careful=False)
    assert served.hear() == {"is": "ready"}
    served.channel.close()  # in the middle
    assert served.gone.wait(10)
    served.thread.join(10)
    assert not served.thread.is_alive()


def test_it_ends_without_a_word(served: Served) -> None:
    served.channel.close()
    served.thread.join(10)
    assert not served.thread.is_alive()


def test_as_a_process_it_loads_no_torch_and_leaves_signals_to_its_parent(source: Source) -> None:
    ours, theirs = socket.socketpair()
    script = (
        "import sys; from ldf_video.readers import worker; "
        "Outbox = worker.Outbox; put = Outbox.put; "
        "Outbox.put = lambda box, said: put(box, said | {'torch': 'torch' in sys.modules}); "
        "worker.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(theirs.fileno())], pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    channel = Channel(ours, max_payload_bytes=2**20)
    channel.send(SETUP, seconds=0)
    ready = channel.receive()
    assert ready is not None
    assert ready.header == {"is": "ready", "torch": False}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as to a whole job
        os.kill(process.pid, number)
    channel.send({"do": "look", "source": source.to_json()}, seconds=0)
    looked = channel.receive()
    assert looked is not None
    assert looked.header["digest"] == source_digest(source)
    if sys.platform == "linux":  # which ends it before its parent where memory runs out
        score = Path(f"/proc/{process.pid}/oom_score_adj").read_text()
        assert int(score) == int(OOM_SCORE)
        assert resource.prlimit(process.pid, resource.RLIMIT_DATA)[0] == MEMORY_MIB * 2**20
    channel.close()
    assert process.wait(20) == 0


# Messages on their way


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
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: clock[0]))
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
