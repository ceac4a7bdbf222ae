from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from clip_files import LOSSLESS, barcode, write_clip

from ldf_video.readers.process import MEMORY_MIB, OOM_SCORE, serve
from ldf_video.readers.wire import Channel, geometry_to_json
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
        patch.setattr("ldf_video.video.sources.source_digest", fail)
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
        "import sys; from ldf_video.readers import process; "
        "from ldf_video.readers.outbox import Outbox; put = Outbox.put; "
        "Outbox.put = lambda box, said: put(box, said | {'torch': 'torch' in sys.modules}); "
        "process.main()"
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
