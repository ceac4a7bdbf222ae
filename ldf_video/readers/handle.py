"""The parent's end of one reader: a process, or a thread where no process is wanted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from ldf_video.readers.wire import (
    BLOCK_BYTES,
    MAX_REPLY_BYTES,
    Channel,
    frame_bytes,
    frames_per_block,
    geometry_to_json,
)
from ldf_video.readers.worker import serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ldf_video.readers.reading import Reading
    from ldf_video.readers.wire import Header
    from ldf_video.video.geometry import Geometry
    from ldf_video.video.read import Reader

# -P: a file av.py in the current directory is none of ours.
COMMAND = (sys.executable, "-P", "-m", "ldf_video.readers.worker")
_SEND_SECONDS = 30.0
_EXIT_SECONDS = 5.0


class ReaderHandle:
    """One reader, and what it is at.

    Attributes:
        channel: to it; does not block.
        reading: the source that it reads, None while it has nothing to do.
        is_ready: whether it has started.
        silent_seconds: for how long it was listened to and sent nothing.
    """

    def __init__(
        self, geometry: Geometry, *, reader: Reader, command: Sequence[str] | None
    ) -> None:
        """Starts the reader; returns before it is ready, see `is_ready`.

        Args:
            geometry: what frames are brought to.
            reader: of videos.
            command: of the process, to which the number of a descriptor is added; None for a thread
                of this process.

        Raises:
            OSError: if no process can be started.
        """
        ours, theirs = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        try:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)  # in one go
            if command is None:
                self._thread = threading.Thread(
                    target=serve, args=(theirs,), kwargs={"on_gone": lambda: None}, daemon=True
                )
                self._thread.start()
            else:
                self._process = _start([*command, str(theirs.fileno())], theirs.fileno())
                theirs.close()
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
            self.send({"geometry": geometry_to_json(geometry), "reader": reader})

    @property
    def is_idle(self) -> bool:
        """Whether it has started and has nothing to do."""
        return self.is_ready and self.reading is None

    def send(self, command: Header) -> None:
        """Sends a command.

        Raises:
            OSError: if it does not take it.
        """
        self.channel.send(command, seconds=_SEND_SECONDS)
        self.silent_seconds = 0.0

    def end(self, *, is_gone: bool = False) -> str:
        """Ends it, in whatever it is, and returns how it ended: "signal 11", "exit code 3".

        Args:
            is_gone: it has closed its end, so it is about to end by itself.
        """
        how = "end of a thread"
        if self._process is not None:
            how = _kill(self._process, patience_seconds=_EXIT_SECONDS if is_gone else 0.0)
        self.channel.close()
        if self._thread is not None:
            self._thread.join(_EXIT_SECONDS)  # it ends with the next frame; if it hangs it is left
        return how


def _start(command: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Starts a reader with this process's way to find modules, and one thread for algebra."""
    places = [place or os.getcwd() for place in sys.path]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        command,
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # its messages come through the socket
        env=os.environ | one_thread | {"PYTHONPATH": os.pathsep.join(places)},
        process_group=0,  # Ctrl-C is for the parent alone
    )


def _kill(process: subprocess.Popen[bytes], *, patience_seconds: float) -> str:
    """Waits for a process to end by itself, then kills it."""
    code = _wait(process, patience_seconds)
    if code is None:
        process.kill()
        code = _wait(process, _EXIT_SECONDS)
    if code is None:  # the kernel does not let go of it, as where a network drive hangs
        code = -signal.SIGKILL
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
