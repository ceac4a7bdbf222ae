"""A process that reads clips for another, so that a decoder's crash or hang costs one clip.

Run as `python -m ldf_video.readers.process DESCRIPTOR` by `ReaderHandle` alone.
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
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.readers.outbox import GoneError, Outbox
from ldf_video.readers.wire import (
    Channel,
    Header,
    WireError,
    fraction_to_json,
    geometry_from_json,
)
from ldf_video.video.files import is_remote_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from ldf_video.video.geometry import Geometry
    from ldf_video.video.read import Reader

MEMORY_VARIABLE = "LDF_READER_MIB"
MEMORY_MIB = 4096
"""What a reader may take: over twice of what 8K video was seen to need."""
OOM_SCORE = "800"

_Commands = queue.SimpleQueue[Header | None]


class _ChangedError(ReadError):
    """A file is not what it was when it was hashed."""


def serve(end: socket.socket, *, on_gone: Callable[[], None]) -> None:
    """Answers commands until the other side closes its end; closes this one.

    The first command sets up the geometry and the reader of videos. Then "look" is answered with a
    source's digest and number of clips, "open" with its clips.

    Args:
        end: of a stream socket, blocking.
        on_gone: called once the other side is gone, at once, from another thread.
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
        _work(commands, outbox, geometry, setup["reader"])
        for thread in threads:
            thread.join()
    finally:
        channel.close()


def main() -> None:
    """Serves the socket whose descriptor is the last argument; returns never."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to end
    _lower(resource.RLIMIT_CORE, 0)  # a crash is no news here
    asked = os.environ.get(MEMORY_VARIABLE, "")
    if limit := int(asked) if asked.isdecimal() else MEMORY_MIB:
        # Not the address space: threads and mapped libraries take much of it and use little.
        _lower(resource.RLIMIT_DATA, limit * 2**20)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(OOM_SCORE)  # where memory runs out all the same, a reader ends, not its parent
    serve(socket.socket(fileno=int(sys.argv[-1])), on_gone=lambda: os._exit(0))
    os._exit(0)


def _lower(kind: int, limit: int) -> None:
    """Sets a limit of this process, unless it is lower already; does nothing where it cannot be."""
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
        _import_all(outbox)
        while (command := commands.get()) is not None:
            try:
                match command["do"]:
                    case "look":
                        _look(command, outbox)
                    case "open":
                        _open(command, outbox, geometry, reader)
                    case "probe":
                        _probe(command, outbox)
                    case "measure":
                        _measure(command, outbox)
            except ReadError as error:
                reason = _reason(error)
                outbox.put({"is": "failed", "reason": reason, "fault": _fault(error)})
            except Exception as error:
                if isinstance(error, GoneError):
                    raise
                # The isolation boundary: whatever a clip provokes is this clip's fault alone.
                outbox.put({"is": "failed", "reason": _reason(error), "fault": "content"})
    except GoneError:
        pass


def _import_all(outbox: Outbox) -> None:
    """Loads the decoders, which takes a while, and says so."""
    try:
        from ldf_video.video import read  # noqa: F401
    except ImportError as error:
        outbox.put({"is": "broken", "reason": _told(error)})
    else:
        outbox.put({"is": "ready"})


def _look(command: Header, outbox: Outbox) -> None:
    from ldf_video.video.read import count_clips
    from ldf_video.video.sources import Source, source_digest, source_stamp

    source = Source.from_json(command["source"])
    stamp = source_stamp(source, alive=outbox.alive)
    digest = source_digest(source, alive=outbox.alive) if command.get("hash", True) else "0" * 64
    outbox.put(
        {"is": "digested", "digest": digest, "num_clips": count_clips(source), "stamp": stamp}
    )


def _open(command: Header, outbox: Outbox, geometry: Geometry, reader: Reader) -> None:
    from ldf_video.video.read import open_clips
    from ldf_video.video.sources import Source, source_stamp

    source = Source.from_json(command["source"])
    left = command.get("most", sys.maxsize)

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
            for frame in islice(clip.frames, left):
                left -= 1
                outbox.add(frame, position=clip.position())
                if command["careful"]:
                    outbox.drain()  # so that a crash takes no good frame with it
        except TruncatedError as error:
            damage = _reason(error)
        check()
        note = clip.note()
        outbox.put({"is": "clip_end", "damage": damage} | ({"note": note} if note else {}))
        if left == 0:
            break
    outbox.put({"is": "source_end"})


def _probe(command: Header, outbox: Outbox) -> None:
    from ldf_video.video.files import locate
    from ldf_video.video.probe import probe

    found = probe(locate(command["path"]), alive=outbox.alive)
    info = {**asdict(found), "fps": fraction_to_json(found.fps)}
    outbox.put({"is": "answer", "info": info})


def _measure(command: Header, outbox: Outbox) -> None:
    from ldf_video.video.probe import frame_size
    from ldf_video.video.sources import Source

    outbox.put({"is": "answer", "size": frame_size(Source.from_json(command["source"]))})


def _reason(error: Exception) -> str:
    """Why a source, or the rest of it, cannot be read, in a few words."""
    if _lacked_memory(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        if limit == resource.RLIM_INFINITY:
            return "out of memory"
        return f"it needs more than {limit // 2**20:,} MiB of memory, see {MEMORY_VARIABLE}"
    return str(error) if isinstance(error, ReadError) else f"the reader failed: {_told(error)}"


def _lacked_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


def _fault(error: ReadError) -> str:
    if isinstance(error, _ChangedError):
        return "changed"
    return "reach" if is_remote_failure(error) else "content"


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    main()
