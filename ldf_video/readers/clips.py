"""Clips of one source after another, decoded by another process: a bad one costs itself alone."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from ldf_video.clips.probe import VideoInfo
from ldf_video.clips.read import ClipStream
from ldf_video.errors import ReadError, TruncatedError
from ldf_video.files.entry import UNKNOWN
from ldf_video.files.remote import RemotePath
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import Answered, Clip, ClipEnded, FramesRead, SourceFailed
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from ldf_video.files.locations import Location
    from ldf_video.readers.reading import Event, Question
    from ldf_video.readers.wire import Header

NUM_READERS = 1
"""More would give frames in no order; 0 reads in this process, as most tests do."""


class ClipReader:
    """What `open_clips` is to one process, with another that decodes; use it in a `with` block."""

    def __init__(self, geometry: Geometry, *, most_frames: int | None = None) -> None:
        """Starts nothing yet; `most_frames` of each source are read, where that is enough."""
        self._geometry, self._most_frames = geometry, most_frames
        self._pool: ReaderPool | None = None

    def open_clips(self, source: Source) -> Iterator[ClipStream]:
        """Yields the clips of a source, each to be read before the next; see `clips.read`.

        Where a decoder crashes or hangs, the frames before that are given.

        Raises:
            ReadError: if the source cannot be read; TruncatedError out of the frames of a clip, or
                behind the last one of several that are not all whole.
            LdfError: if readers cannot be started.
        """
        if self._pool is None:
            self._pool = ReaderPool(
                self._geometry,
                num_workers=_num_readers(source.root),
                hashed=False,
                most_frames=self._most_frames,
            )
        events = self._pool.read([source])
        damaged = list[str]()
        for event in events:
            if isinstance(event, Clip):
                yield _stream(event, events, damaged)
            elif isinstance(event, SourceFailed):
                raise ReadError(event.reason)
        if damaged:
            raise TruncatedError(damaged[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.close()


def _stream(clip: Clip, events: Iterator[Event | None], damaged: list[str]) -> ClipStream:
    """The open clip, its frames taken from the events that follow.

    Why it is not whole goes to those that are `damaged` if it is one of several.
    """
    position, note = 0.0, ""
    told: list[float | None] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        nonlocal position, note, told
        for event in events:
            if isinstance(event, FramesRead):
                position, known = event.position, event.conditions
                for number, frame in enumerate(event.frames.copy()):  # the next reuses their memory
                    if known is not None:
                        row = known.values[number].tolist()
                        told = [None if math.isnan(value) else value for value in row]
                    yield frame
            elif isinstance(event, SourceFailed):
                raise ReadError(event.reason)
            elif isinstance(event, ClipEnded):
                note = event.note
                if event.damage and clip.index is not None:
                    damaged.append(f"{clip.title}: {event.damage}")
                elif event.damage:
                    for _ in events:  # so that the reader is free for the next source
                        pass
                    raise TruncatedError(event.damage)
                return

    return ClipStream(
        clip.index,
        clip.fps,
        frames(),
        lambda: position,
        note=lambda: note,
        columns=clip.columns,
        told=lambda: told,
    )


def probe(place: Source | Location) -> VideoInfo:
    """Returns what a file is; see `clips.probe`.

    Raises:
        ReadError: if not one frame can be read, or the decoder crashes or hangs.
    """
    source = place
    if not isinstance(source, Source):
        source = Source(source.parent, source.name, UNKNOWN, UNKNOWN)
    info = _answer("probe", source)["info"]
    lines = {name: tuple(info[name]) for name in ("held", "told")}
    return VideoInfo(**{**info, "fps": Fraction(*info["fps"]), **lines})


def frame_size(source: Source) -> tuple[int, int]:
    """Returns height and width, upright, of the first frame; see `clips.probe.frame_size`.

    Raises:
        ReadError: if it cannot be read, or the decoder crashes or hangs.
    """
    height, width = _answer("measure", source)["size"]
    return height, width


def _answer(question: Question, source: Source) -> Header:
    """The answer of a process of its own to a question that needs no frames in return."""
    with ReaderPool(Geometry(1, 1), num_workers=_num_readers(source.root)) as pool:
        for event in pool.read([source], question=question):
            if isinstance(event, SourceFailed):
                raise ReadError(event.reason)
            if isinstance(event, Answered):
                return event.answer
    raise AssertionError("a reading ends with an answer or a failure")


def _num_readers(place: Location) -> int:
    """As many; none for files in the memory of this process, which no other one finds."""
    return 0 if isinstance(place, RemotePath) and "memory://" in str(place) else NUM_READERS
