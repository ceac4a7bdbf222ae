"""A process that reads clips for another, so that a decoder's crash or hang costs one clip.

Run as `python -m ldf_video.readers.worker DESCRIPTOR` by `readers/process.py` alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import sys
import threading
from dataclasses import asdict
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

from ldf_video.clips.identity import source_digest, source_stamp
from ldf_video.errors import ReadError, TruncatedError
from ldf_video.files.layout import Layout
from ldf_video.files.remote import is_remote_failure
from ldf_video.readers.outbox import Outbox
from ldf_video.readers.wire import Header, Message, describe_damage, receive
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEMORY_VARIABLE = "LDF_READER_MIB"
MEMORY_MIB = 4096
"""What a reader may take: over twice of what 8K video was seen to need."""
OOM_SCORE = "800"


class _ChangedError(ReadError):
    """A file is not what it was when it was hashed."""


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


_hashed: dict[tuple[str, str, Layout, str], str] = {}
"""The last file of which a range was read: a table may name many of one file of many gigabytes."""


def _digest(source: Source, stamp: str, alive: Callable[[], None]) -> str:
    if source.part is None or source.part.problem or not stamp:
        return source_digest(source, alive=alive)
    key = str(source.path), source.inner, source.layout, stamp
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
