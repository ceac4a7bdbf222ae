"""The parent's end of one reader: a process, or a thread where no process is wanted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Protocol

from ldf_video.readers.process import serve
from ldf_video.readers.wire import (
    BLOCK_BYTES,
    MAX_REPLY_BYTES,
    Channel,
    frame_bytes,
    frames_per_block,
    geometry_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ldf_video.readers.reading import Reading
    from ldf_video.readers.wire import Header
    from ldf_video.video.geometry import Geometry
    from ldf_video.video.read import Reader

# -P: a file av.py in the current directory is none of ours.
COMMAND = (sys.executable, "-P", "-m", "ldf_video.readers.process")
STALL_SECONDS = 60.0
"""After so long without a word a reader hangs."""
START_SECONDS = 120.0
_SEND_SECONDS = 30.0
_EXIT_SECONDS = 5.0


class _Serving(Protocol):
    """What answers at the other end."""

    def end(self, patience_seconds: float) -> str:
        """Ends it, if it does not end by itself in a while, and says how it ended."""
        ...

    def join(self) -> None:
        """Waits until nothing is left of it, once its socket is closed."""
        ...


class ReaderHandle:
    """One reader, and what it is at.

    Attributes:
        channel: to it; does not block.
        reading: the source that it reads, None while it has nothing to do.
        is_ready: whether it has started.
        silent_seconds: for how long it was listened to and said nothing.
    """

    def __init__(
        self, geometry: Geometry, *, reader: Reader, command: Sequence[str] | None
    ) -> None:
        """Starts it and does not wait until it has started.

        Args:
            geometry: what frames are brought to.
            reader: of videos.
            command: of the process, to which the number of a descriptor is added; None for a thread
                of this process.

        Raises:
            OSError: if no process can be started.
        """
        ours, theirs = socket.socketpair()
        try:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)  # in one go
            self._serving: _Serving = (
                _Thread(theirs) if command is None else _Process(theirs, command)
            )
        except BaseException:
            ours.close()
            theirs.close()
            raise
        ours.setblocking(False)
        self.channel = Channel(
            ours,
            max_header_bytes=MAX_REPLY_BYTES,
            max_payload_bytes=frames_per_block(geometry) * frame_bytes(geometry),
        )
        self.reading: Reading | None = None
        self.is_ready, self.silent_seconds = False, 0.0
        with contextlib.suppress(OSError):  # dead already? That is seen when it is listened to
            self.tell({"geometry": geometry_to_json(geometry), "reader": reader})

    @property
    def is_idle(self) -> bool:
        """Whether it has started and has nothing to do."""
        return self.is_ready and self.reading is None

    def tell(self, command: Header) -> None:
        """Sends a command.

        Raises:
            OSError: if it does not take it.
        """
        self.channel.send(command, seconds=_SEND_SECONDS)
        self.silent_seconds = 0.0

    def end(self, *, is_gone: bool = False) -> str:
        """Ends it, in whatever it is, and says how it ended: "signal 11", "exit code 3".

        Args:
            is_gone: it has closed its end, so it is about to end by itself.
        """
        how = self._serving.end(_EXIT_SECONDS if is_gone else 0.0)
        self.channel.close()
        self._serving.join()
        return how


class _Process:
    def __init__(self, theirs: socket.socket, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what it has to say comes through the socket
            env=_environment(),
            process_group=0,  # Ctrl-C is for the parent alone
        )
        theirs.close()

    def end(self, patience_seconds: float) -> str:
        code = _wait(self._process, patience_seconds)
        if code is None:
            self._process.kill()
            code = _wait(self._process, _EXIT_SECONDS)
        if code is None:  # the kernel does not let go of it, as where a network drive hangs
            code = -signal.SIGKILL
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def join(self) -> None:
        pass


class _Thread:
    def __init__(self, theirs: socket.socket) -> None:
        self._thread = threading.Thread(
            target=serve, args=(theirs,), kwargs={"on_gone": lambda: None}, daemon=True
        )
        self._thread.start()

    def end(self, patience_seconds: float) -> str:
        return "end of a thread"

    def join(self) -> None:
        self._thread.join(_EXIT_SECONDS)  # it ends with the next frame; if it hangs it is left


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _environment() -> dict[str, str]:
    """That of this process, with its way to find modules and one thread for numpy's algebra."""
    places = [place or os.getcwd() for place in sys.path]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return os.environ | one_thread | {"PYTHONPATH": os.pathsep.join(places)}
