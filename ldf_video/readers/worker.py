"""A process that reads clips for another, so that a decoder's crash or hang costs one clip.

Run as `python -m ldf_video.readers.worker DESCRIPTOR` by `readers/pool.py` alone. Messages either
way are JSON, frames behind it as bare bytes. No pickle: a clip that takes over a decoder may send
messages, and run nothing in the parent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ldf_video.clips.identity import source_digest, source_stamp
from ldf_video.errors import ReadError, TruncatedError, counted
from ldf_video.files.remote import is_remote_failure
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Header: TypeAlias = dict[str, Any]

BLOCK_FRAMES = 32
BLOCK_BYTES = 2**20
MEMORY_VARIABLE = "LDF_READER_MIB"
MEMORY_MIB = 4096
"""What a reader may take: over twice of what 8K video was seen to need."""
OOM_SCORE = "800"

_PREFIX = struct.Struct("<II")  # bytes of JSON, bytes of frames
_MAX_UINT32 = 2**32 - 1
_NOTHING = memoryview(b"")
_FLUSH_SECONDS = 0.25
_ALIVE_SECONDS = 0.25
_LOOK_SECONDS = 0.1
_MAX_WAITING = 64  # messages without frames are small; still there shall be an end to them


class WireError(Exception):
    """What came is no message, or makes no sense."""


class _ChangedError(ReadError):
    """A file is not what it was when it was hashed."""


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


class Outbox:
    """Messages on their way from the thread that decodes to one that sends.

    Frames are gathered in a few blocks, each used again once it is sent, so decoding goes on while
    the parent is busy. A block leaves when it is full, before any other message, and at the latest
    a quarter of a second after its first frame, even if the decoder hangs then.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Message, memoryview | None]] = deque()  # with the block used
        self._is_sending = False
        self._free: list[memoryview] = []
        self._num_blocks = 0
        self._filling: memoryview | None = None
        self._num_frames, self._num_bytes = 0, 0  # in the block that is filled
        self._position, self._filling_since = 0.0, 0.0
        self._told: list[list[float | None]] = []  # of the frames in it
        self._last_message = time.monotonic()
        threading.Thread(target=self._send_all, daemon=True).start()

    def put(self, message: Message) -> None:
        """Sends a message after all before it; copies a frame; waits while much is unsent."""
        with self._changed:
            if message.payload:
                self._add_frame(message)
            else:
                self._seal()
                self._changed.wait_for(lambda: len(self._waiting) < _MAX_WAITING)
                self._append(message, None)

    def alive(self) -> None:
        """Sends a sign of life, now and then, while work goes on without a frame."""
        if time.monotonic() - self._last_message > _ALIVE_SECONDS:
            self.put(Message({"is": "alive"}))

    def drain(self) -> None:
        """Waits until all has been sent."""
        with self._changed:
            self._seal()
            self._changed.wait_for(lambda: not self._waiting and not self._is_sending)

    def _send_all(self) -> None:
        while True:
            message, block = self._next()
            try:
                send(self._end, message)
            except OSError:
                os._exit(0)  # the parent is gone
            with self._changed:
                self._is_sending = False
                if block is not None:
                    self._free.append(block)
                self._changed.notify_all()

    def _next(self) -> tuple[Message, memoryview | None]:
        with self._changed:
            while not self._waiting:
                if time.monotonic() - self._filling_since > _FLUSH_SECONDS - _LOOK_SECONDS:
                    self._seal()
                if not self._waiting:
                    # To look now and then is cheaper than to be woken by each block's first frame.
                    self._changed.wait(_LOOK_SECONDS)
            self._is_sending = True
            return self._waiting.popleft()

    # Called with the lock held.

    def _add_frame(self, message: Message) -> None:
        frame_bytes = len(message.payload)
        if self._filling is None:
            if not self._free and self._num_blocks < (4 if frame_bytes <= BLOCK_BYTES else 2):
                self._num_blocks += 1
                self._free.append(memoryview(bytearray(block_bytes(frame_bytes))))
            self._changed.wait_for(lambda: bool(self._free))
            self._filling, self._filling_since = self._free.pop(), time.monotonic()
        self._filling[self._num_bytes : self._num_bytes + frame_bytes] = message.payload
        self._num_frames += 1
        self._num_bytes += frame_bytes
        self._position = message.header["position"]
        self._told += message.header.get("told", ())
        if self._num_bytes == len(self._filling):
            self._seal()

    def _seal(self) -> None:
        if self._filling is None:
            return
        header = {"is": "frames", "num_frames": self._num_frames, "position": self._position}
        if self._told:
            header["told"] = self._told
        self._append(Message(header, self._filling[: self._num_bytes]), self._filling)
        self._filling, self._num_frames, self._num_bytes, self._told = None, 0, 0, []

    def _append(self, message: Message, block: memoryview | None) -> None:
        self._waiting.append((message, block))
        self._last_message = time.monotonic()
        self._changed.notify_all()


def answers(command: Header, *, alive: Callable[[], None] = lambda: None) -> Iterator[Message]:
    """Yields what is to be said to a command of a `Reading`, each frame in a message of its own.

    "look" is answered with a source's digest and number of clips, "open" with its clips, "probe"
    and "measure" with facts; whatever fails ends in a message that says so. `alive` is called now
    and then during long work.
    """
    source = Source.from_json(command["source"])
    try:
        if command["do"] == "open":
            yield from _open(command, source, alive)
        else:
            yield Message(_facts(command, source, alive))
    except Exception as error:
        # The isolation boundary: whatever a clip provokes is this clip's fault alone.
        yield Message({"is": "failed", "reason": _reason(error), "fault": _fault(error)})


def geometry_to_json(geometry: Geometry) -> Header:
    """Returns a geometry as a command holds it."""
    return asdict(geometry) | {"fps": None if geometry.fps is None else str(geometry.fps)}


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
    end = socket.socket(fileno=int(sys.argv[-1]))
    threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()
    outbox = Outbox(end)
    try:
        from ldf_video.clips import read  # noqa: F401 - loads the decoders, which takes a while
    except ImportError as error:
        outbox.put(Message({"is": "broken", "reason": _one_line(error)}))
    else:
        outbox.put(Message({"is": "ready"}))
    with contextlib.suppress(EOFError):
        while True:
            command = receive(end).header
            for message in answers(command, alive=outbox.alive):
                outbox.put(message)
                if command["careful"]:
                    outbox.drain()  # what is known of a clip is told before it can do harm
    os._exit(0)


def _end_with_parent(end: socket.socket) -> None:
    """Ends this process with the other side, also in the middle of work that hangs."""
    poll = select.poll()
    poll.register(end, 0)  # its end alone
    poll.poll()
    os._exit(0)


def _lower(kind: int, limit: int) -> None:
    """Sets a limit of this process, unless it is lower already or cannot be set."""
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft > limit:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, hard))


def _facts(command: Header, source: Source, alive: Callable[[], None]) -> Header:
    from ldf_video.clips import probe

    if command["do"] == "measure":
        return {"is": "answer", "size": probe.frame_size(source)}
    if command["do"] == "probe":
        found = probe.probe(source, alive=alive)
        return {"is": "answer", "info": asdict(found) | {"fps": found.fps.as_integer_ratio()}}
    stamp = source_stamp(source, alive=alive)
    digest = _digest(source, stamp, alive) if command["hashed"] else "0" * 64
    num_clips = probe.count_clips(source)
    return {"is": "digested", "digest": digest, "num_clips": num_clips, "stamp": stamp}


_hashed: dict[tuple[str, str, str], str] = {}
"""The last file of which a range was read: a table may name many of one file of many gigabytes."""


def _digest(source: Source, stamp: str, alive: Callable[[], None]) -> str:
    if source.part is None or source.part.problem or not stamp:
        return source_digest(source, alive=alive)
    key = str(source.path), source.inner, stamp
    if key not in _hashed:
        digest = source_digest(source, alive=alive)
        _hashed.clear()
        _hashed[key] = digest
    return _hashed[key]


def _open(command: Header, source: Source, alive: Callable[[], None]) -> Iterator[Message]:
    from ldf_video.clips import read

    fps = command["geometry"]["fps"]
    geometry = Geometry(**command["geometry"] | {"fps": None if fps is None else Fraction(fps)})
    num_left = sys.maxsize if command["most_frames"] is None else command["most_frames"]

    def check() -> None:  # frames must be those of the bytes that were hashed
        if source_stamp(source, alive=alive) != command["stamp"]:
            raise _ChangedError("changed while it was read; run again when it is complete")

    for clip in read.open_clips(
        source,
        geometry,
        reader=command["reader"],
        first_frames=command["first_frames"],
        threads=1 if command["careful"] else 0,
        alive=alive,
    ):
        check()
        fps = clip.fps.as_integer_ratio()
        facts: Header = {"index": clip.index, "fps": fps, "why_pyav": clip.why_pyav}
        facts |= {"size": clip.size, "name": clip.name}
        if clip.columns:
            facts["columns"] = [[column.name, column.names] for column in clip.columns]
        yield Message({"is": "clip", **facts})
        damage, num_frames = "", clip.first_frame
        try:
            for frame in islice(clip.frames, num_left):
                num_left -= 1
                num_frames += 1
                header = {"is": "frames", "num_frames": 1, "position": clip.position()}
                if clip.columns:
                    header["told"] = [clip.told()]
                yield Message(header, frame.data.cast("B"))
        except TruncatedError as error:
            damage = _reason(error)
        except Exception as error:
            if clip.index is None or _fault(error) != "content":
                raise
            damage = describe_damage(num_frames, _reason(error))  # the other clips are good
        check()
        yield Message({"is": "clip_end", "damage": damage, "note": clip.note()})
        if num_left == 0:
            break
    yield Message({"is": "source_end"})


def describe_damage(num_frames: int, reason: str) -> str:
    """What is said of a clip of which no more can be read."""
    return f"damaged after {counted(num_frames, 'frame')}: {reason}" if num_frames else reason


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
