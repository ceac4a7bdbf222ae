"""Clips of one source after another, decoded by another process: a bad one costs itself alone."""

from __future__ import annotations

import select
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from ldf_video.errors import ReadError, TruncatedError
from ldf_video.readers.events import ClipBegun, ClipEnded, FramesRead, SourceEnded, SourceFailed
from ldf_video.readers.handle import COMMAND, STALL_SECONDS, START_SECONDS, ReaderHandle
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.wire import WireError
from ldf_video.video.files import RemotePath
from ldf_video.video.geometry import Geometry
from ldf_video.video.probe import VideoInfo
from ldf_video.video.read import ClipStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from ldf_video.readers.events import Event
    from ldf_video.readers.wire import Header
    from ldf_video.video.files import Location
    from ldf_video.video.sources import Source

NUM_READERS = 1
"""More would give frames in no order; 0 reads in this process, as most tests do."""


class ClipReader:
    """What `open_clips` is to one process, with another that decodes; use it in a `with` block."""

    def __init__(self, geometry: Geometry, *, most_frames: int | None = None) -> None:
        """Starts nothing yet.

        Args:
            geometry: what frames are brought to.
            most_frames: of each source, where that is enough.
        """
        self._geometry = geometry
        self._options: Header = {"hash": False}
        if most_frames is not None:
            self._options["most"] = most_frames
        self._pool: ReaderPool | None = None

    def open_clips(self, source: Source) -> Iterator[ClipStream]:
        """Yields the clips of a source, each to be read before the next; see `video.read`.

        Of a decoder that crashes or hangs the frames before are given.

        Raises:
            ReadError: if the source cannot be read; TruncatedError out of the frames of a clip.
            LdfError: if readers cannot be started.
        """
        if self._pool is None:
            number = _num_readers(source.root)
            self._pool = ReaderPool(self._geometry, num_workers=number, options=self._options)
        read = self._pool.read([source], _everything)
        events: Iterator[Event] = (event for event in read if event is not None)
        for event in events:
            if isinstance(event, ClipBegun):
                yield _Clip(events).stream(event)
            elif isinstance(event, SourceFailed):
                raise ReadError(event.reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.close()


class _Clip:
    """The frames of the clip begun last, as they come."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events, self._position, self._note = events, 0.0, ""

    def stream(self, begun: ClipBegun) -> ClipStream:
        return ClipStream(
            begun.index,
            begun.fps,
            self._frames(),
            lambda: self._position,
            note=lambda: self._note,
        )

    def _frames(self) -> Iterator[NDArray[np.uint8]]:
        for event in self._events:
            if isinstance(event, FramesRead):
                self._position = event.position
                yield from event.frames.copy()  # what came is written over by what comes
            elif isinstance(event, SourceFailed):
                raise ReadError(event.reason)
            elif isinstance(event, ClipEnded):
                self._note = event.note
                if event.damage:
                    for rest in self._events:  # so that the reader is free for the next source
                        if isinstance(rest, SourceEnded | SourceFailed):
                            break
                    raise TruncatedError(event.damage)
                return


def probe(path: Location) -> VideoInfo:
    """Says what a file is; see `video.probe.probe`.

    Raises:
        ReadError: if not one frame can be read, or the decoder crashes or hangs.
        LdfError: if no process can be started.
    """
    found = _answer({"do": "probe", "path": str(path)}, path)
    return VideoInfo(**{**found["info"], "fps": Fraction(*found["info"]["fps"])})


def frame_size(source: Source) -> tuple[int, int]:
    """Returns height and width, upright, of the first frame; see `video.probe.frame_size`.

    Raises:
        ReadError: if it cannot be read, or the decoder crashes or hangs.
        LdfError: if no process can be started.
    """
    question = {"do": "measure", "source": source.to_json()}
    height, width = _answer(question, source.root)["size"]
    return height, width


def _num_readers(place: Location) -> int:
    """As many; none for files in the memory of this process, which no other one finds."""
    return 0 if isinstance(place, RemotePath) and "memory://" in str(place) else NUM_READERS


def _everything(source: Source, digest: str, num_clips: int | None) -> Sequence[int]:
    return [0] * (1 if num_clips is None else num_clips)


def _answer(question: Header, place: Location) -> Header:
    """What a process of its own answers to a question that needs no frames in return."""
    command = COMMAND if _num_readers(place) else None
    reader = ReaderHandle(Geometry(1, 1), reader="auto", command=command)
    poll = select.poll()
    poll.register(reader.channel, select.POLLIN)
    try:
        reader.tell(question)
        patience = START_SECONDS
        while poll.poll(patience * 1000):
            message = reader.channel.receive()
            if message is None or message.header.get("is") == "alive":
                continue
            if message.header.get("is") == "ready":
                patience = STALL_SECONDS
            elif message.header.get("is") == "answer":
                return message.header
            else:
                raise ReadError(str(message.header.get("reason")))
        raise ReadError(f"the decoder hung for {patience:g} s")
    except (EOFError, OSError):
        raise ReadError(f"the decoder crashed ({reader.end(is_gone=True)})") from None
    except WireError as error:
        raise ReadError(f"the decoder crashed ({error})") from None
    finally:
        reader.end()
