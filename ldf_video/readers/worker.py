"""A process that reads clips for another, so that a decoder's crash or hang costs one clip.

Run as `python -m ldf_video.readers.worker DESCRIPTOR` by `ReaderHandle` alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.readers.wire import (
    BLOCK_BYTES,
    Channel,
    Header,
    WireError,
    fraction_to_json,
    frame_bytes,
    frames_per_block,
    geometry_from_json,
)
from ldf_video.video.files import is_remote_failure
from ldf_video.video.sources import Source, source_digest, source_stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ldf_video.video.geometry import Geometry
    from ldf_video.video.read import Reader

MEMORY_VARIABLE = "LDF_READER_MIB"
MEMORY_MIB = 4096
"""What a reader may take: over twice of what 8K video was seen to need."""
OOM_SCORE = "800"

FLUSH_SECONDS = 0.25
ALIVE_SECONDS = 0.25
_LOOK_SECONDS = 0.1
_MAX_WAITING = 64  # messages without frames are small; still there shall be an end to them

_Commands = queue.SimpleQueue[Header | None]


class _ChangedError(ReadError):
    """A file is not what it was when it was hashed."""


class GoneError(Exception):
    """The parent is gone."""


class _Item(NamedTuple):
    header: Header
    block: NDArray[np.uint8] | None = None


class Outbox:
    """Messages on their way from the thread that decodes to the thread that sends.

    Frames are gathered in a few blocks, each used again once it is sent, so decoding goes on while
    the parent is busy. A block leaves when it is full, before any other message, and at the latest
    a quarter of a second after its first frame, even if the decoder hangs then.
    """

    def __init__(self, geometry: Geometry) -> None:
        """Allocates the blocks; memory is touched as they fill."""
        num_blocks = 4 if frame_bytes(geometry) <= BLOCK_BYTES else 2
        shape = (frames_per_block(geometry), geometry.height, geometry.width, 3)
        self._free = [np.empty(shape, np.uint8) for _ in range(num_blocks)]
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._filling: NDArray[np.uint8] | None = None
        self._num_filled, self._position, self._filling_since = 0, 0.0, 0.0
        self._is_sending = self._is_closed = False
        self._last_message = time.monotonic()

    # Called by the thread that decodes; each raises GoneError if the parent is gone.

    def put(self, header: Header) -> None:
        """Sends a message after all frames so far; waits while many are still to be sent."""
        with self._changed:
            self._seal()
            self._wait_until(lambda: len(self._waiting) < _MAX_WAITING)
            self._append(_Item(header))

    def add(self, frame: NDArray[np.uint8], *, position: float) -> None:
        """Copies a frame (height, width, 3) into a block; waits while all blocks are full."""
        with self._changed:
            if self._filling is None:
                self._wait_until(lambda: bool(self._free))
                self._filling, self._filling_since = self._free.pop(), time.monotonic()
            self._filling[self._num_filled] = frame
            self._num_filled += 1
            self._position = position
            if self._num_filled == len(self._filling):
                self._seal()

    def alive(self) -> None:
        """Sends a sign of life, now and then, while work goes on without a frame."""
        if time.monotonic() - self._last_message > ALIVE_SECONDS:
            self.put({"is": "alive"})

    def drain(self) -> None:
        """Waits until all has been sent."""
        with self._changed:
            self._seal()
            self._wait_until(lambda: not self._waiting and not self._is_sending)

    # Called by the thread that sends.

    def send_all(self, channel: Channel) -> None:
        """Sends whatever comes, until the outbox is closed or the parent is gone."""
        while (item := self._next()) is not None:
            payload = None
            if item.block is not None:
                payload = item.block[: item.header["num_frames"]].data.cast("B")
            try:
                channel.send(item.header, payload, seconds=0.0)
            except OSError:
                self.close()
            with self._changed:
                self._is_sending = False
                if item.block is not None:
                    self._free.append(item.block)
                self._changed.notify_all()

    def close(self) -> None:
        """Ends both sides; what was not sent is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _next(self) -> _Item | None:
        with self._changed:
            while not self._is_closed:
                age = time.monotonic() - self._filling_since
                if self._num_filled and not self._waiting and age > FLUSH_SECONDS - _LOOK_SECONDS:
                    self._seal()
                if self._waiting:
                    self._is_sending = True
                    return self._waiting.popleft()
                # To look now and then is cheaper than to be woken by each block's first frame.
                self._changed.wait(_LOOK_SECONDS)
            return None

    # Called with the lock held.

    def _seal(self) -> None:
        if self._num_filled == 0:
            return
        header = {"is": "frames", "num_frames": self._num_filled, "position": self._position}
        self._append(_Item(header, self._filling))
        self._filling, self._num_filled = None, 0

    def _append(self, item: _Item) -> None:
        self._waiting.append(item)
        self._last_message = time.monotonic()
        self._changed.notify_all()

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: is_so() or self._is_closed)
        if self._is_closed:
            raise GoneError


def serve(end: socket.socket, *, on_gone: Callable[[], None]) -> None:
    """Answers commands until the parent closes its end; closes this one.

    The first command sets up the geometry and the reader of videos. Then "look" is answered with a
    source's digest and number of clips, "open" with its clips, "probe" and "measure" with facts.

    Args:
        end: of a stream socket, blocking.
        on_gone: called once the parent is gone, at once, from another thread.
    """
    channel = Channel(end)
    commands: _Commands = queue.SimpleQueue()
    try:
        setup = _next_command(channel)
        if setup is None:
            return
        geometry = geometry_from_json(setup["geometry"])
        outbox = Outbox(geometry)

        def listen() -> None:
            while (command := _next_command(channel)) is not None:
                commands.put(command)
            on_gone()
            outbox.close()
            commands.put(None)

        threads = [
            threading.Thread(target=listen, name="reader-listens", daemon=True),
            threading.Thread(
                target=outbox.send_all, args=(channel,), name="reader-sends", daemon=True
            ),
        ]
        for thread in threads:
            thread.start()
        with contextlib.suppress(GoneError):
            _work(commands, outbox, geometry, setup["reader"])
        for thread in threads:
            thread.join()
    finally:
        channel.close()


def main() -> None:
    """Serves the socket whose descriptor is the last argument; never returns."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to end
    _lower(resource.RLIMIT_CORE, 0)  # a crash is expected here
    asked = os.environ.get(MEMORY_VARIABLE, "")
    if limit := int(asked) if asked.isdecimal() else MEMORY_MIB:
        # Not the address space: threads and mapped libraries take much of it and use little.
        _lower(resource.RLIMIT_DATA, limit * 2**20)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(OOM_SCORE)  # where memory runs out all the same, a reader ends, not its parent
    serve(socket.socket(fileno=int(sys.argv[-1])), on_gone=lambda: os._exit(0))
    os._exit(0)


def _lower(kind: int, limit: int) -> None:
    """Sets a limit of this process, unless it is lower already or cannot be set."""
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft > limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, hard))


def _next_command(channel: Channel) -> Header | None:
    try:
        message = channel.receive()
    except (EOFError, OSError, WireError):
        return None
    return None if message is None else message.header


def _work(commands: _Commands, outbox: Outbox, geometry: Geometry, reader: Reader) -> None:
    try:
        from ldf_video.video import read  # noqa: F401 - loads the decoders, which takes a while
    except ImportError as error:
        outbox.put({"is": "broken", "reason": _one_line(error)})
        return
    outbox.put({"is": "ready"})
    while (command := commands.get()) is not None:
        try:
            match command["do"]:
                case "look":
                    _look(command, outbox)
                case "open":
                    _open(command, outbox, geometry, reader)
                case "probe" | "measure":
                    _answer(command, outbox)
        except GoneError:
            raise
        except Exception as error:
            # The isolation boundary: whatever a clip provokes is this clip's fault alone.
            outbox.put({"is": "failed", "reason": _reason(error), "fault": _fault(error)})


def _look(command: Header, outbox: Outbox) -> None:
    from ldf_video.video.read import count_clips

    source = Source.from_json(command["source"])
    stamp = source_stamp(source, alive=outbox.alive)
    digest = source_digest(source, alive=outbox.alive) if command.get("hash", True) else "0" * 64
    outbox.put(
        {"is": "digested", "digest": digest, "num_clips": count_clips(source), "stamp": stamp}
    )


def _open(command: Header, outbox: Outbox, geometry: Geometry, reader: Reader) -> None:
    from ldf_video.video.read import open_clips

    source = Source.from_json(command["source"])
    num_left = command.get("most", sys.maxsize)

    def check() -> None:  # frames must be those of the bytes that were hashed
        if source_stamp(source, alive=outbox.alive) != command["stamp"]:
            raise _ChangedError("changed while it was read; run again when it is complete")

    for clip in open_clips(
        source,
        geometry,
        reader=reader,
        first_frames=command["first_frames"],
        threads=command["threads"],
        alive=outbox.alive,
    ):
        check()
        outbox.put(
            {
                "is": "clip",
                "index": clip.index,
                "fps": fraction_to_json(clip.fps),
                "first_frame": clip.first_frame,
                "why_pyav": clip.why_pyav,
            }
        )
        if command["careful"]:
            outbox.drain()  # what is known of the clip must be known before it can do harm
        damage = ""
        try:
            for frame in islice(clip.frames, num_left):
                num_left -= 1
                outbox.add(frame, position=clip.position())
                if command["careful"]:
                    outbox.drain()  # so that a crash takes no good frame with it
        except TruncatedError as error:
            damage = _reason(error)
        check()
        note = clip.note()
        outbox.put({"is": "clip_end", "damage": damage} | ({"note": note} if note else {}))
        if num_left == 0:
            break
    outbox.put({"is": "source_end"})


def _answer(command: Header, outbox: Outbox) -> None:
    from ldf_video.video.read import frame_size, probe

    source = Source.from_json(command["source"])
    if command["do"] == "probe":
        found = probe(source.path, alive=outbox.alive)
        info = {**asdict(found), "fps": fraction_to_json(found.fps)}
        outbox.put({"is": "answer", "info": info})
    else:
        outbox.put({"is": "answer", "size": frame_size(source)})


def _reason(error: Exception) -> str:
    """Why a source, or the rest of it, cannot be read, in a few words."""
    if _lacked_memory(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        if limit == resource.RLIM_INFINITY:
            return "out of memory"
        return f"it needs more than {limit // 2**20:,} MiB of memory, see {MEMORY_VARIABLE}"
    return str(error) if isinstance(error, ReadError) else f"the reader failed: {_one_line(error)}"


def _lacked_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


def _fault(error: Exception) -> str:
    if isinstance(error, _ChangedError):
        return "changed"
    return "reach" if isinstance(error, ReadError) and is_remote_failure(error) else "content"


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    main()
