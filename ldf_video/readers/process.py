"""One reader, seen from its parent: a process that answers commands, and may crash or hang."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from ldf_video.errors import LdfError
from ldf_video.readers.wire import BLOCK_BYTES, Header, Message, receive, send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# -P: a file av.py in the current directory is none of ours.
COMMAND = (sys.executable, "-P", "-m", "ldf_video.readers.worker")
LISTEN_SECONDS = 0.25
START_SECONDS = 120.0
_SEND_SECONDS = 30.0
_EXIT_SECONDS = 5.0
_MAX_REPLY_BYTES = 2**16  # of the JSON that a reader may send


class Process:
    """The parent's end of one reader, which is ready once it has started."""

    def __init__(self, command: Sequence[str], *, block_bytes: int, stall_seconds: float) -> None:
        """Starts the reader, or raises OSError; returns before it is ready."""
        self.is_ready, self.stall_seconds = False, stall_seconds
        self._payload = np.empty(block_bytes, np.uint8).data  # touched as it fills
        self._socket, theirs = socket.socketpair()
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK_BYTES)  # in one go
            try:
                self.process = _start(command, theirs.fileno())
            except BaseException:
                self._socket.close()
                raise

    def answers(self, command: Header) -> Iterator[Message]:
        """Yields what it says to a command.

        Raises:
            EOFError: if it ends.
            TimeoutError: if it is silent for too long.
            WireError: if it says what is no message.
            LdfError: if readers cannot work here.
        """
        self._socket.settimeout(LISTEN_SECONDS)
        if not self.is_ready:
            header = self._receive(START_SECONDS).header
            if header.get("is") == "broken":
                raise LdfError(f"readers do not start: {header.get('reason')}")
            self.is_ready = True
        self._socket.settimeout(_SEND_SECONDS)
        try:
            send(self._socket, Message(command))
        except OSError as error:
            raise EOFError from error
        self._socket.settimeout(LISTEN_SECONDS)
        while True:
            message = self._receive(self.stall_seconds)
            if message.header.get("is") != "alive":
                yield message

    def stop(self) -> None:
        """Ends it, and what another thread awaits of it, though the kernel may not let go of it."""
        self.process.kill()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self, *, is_gone: bool = False) -> str:
        """Ends it, in whatever it is, and returns how it ended: "signal 11", "exit code 3".

        One that is gone has closed its end, so it is about to end by itself.
        """
        code = self._wait(_EXIT_SECONDS if is_gone else 0.0)
        if code is None:
            self.process.kill()
            code = self._wait(_EXIT_SECONDS)
        if code is None:  # the kernel does not let go of it, as where a network drive hangs
            code = -signal.SIGKILL
        self._socket.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _receive(self, patience_seconds: float) -> Message:
        return receive(
            self._socket,
            self._payload,
            max_header_bytes=_MAX_REPLY_BYTES,
            patience_seconds=patience_seconds,
        )

    def _wait(self, seconds: float) -> int | None:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def _start(command: Sequence[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Starts a reader with this process's way to find modules, and one thread for algebra."""
    places = [place or os.getcwd() for place in sys.path]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        [*command, str(descriptor)],
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # its messages come through the socket
        env=os.environ | one_thread | {"PYTHONPATH": os.pathsep.join(places)},
        process_group=0,  # Ctrl-C is for the parent alone
    )
