"""A video from a frame in its middle on, decoded from the key frame before it.

Seeking is inexact in many files. So all packets are looked at first, frames are known by their
times, and each must be the next one; wherever anything else comes, the caller decodes from the
start.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

import numpy as np
from av.error import FFmpegError

from ldf_video.errors import ReadError
from ldf_video.video.decode import open_container, picture_stream, set_threads
from ldf_video.video.packets import TimesError, require
from ldf_video.video.tail import is_cut_short
from ldf_video.video.timeline import read_timeline
from ldf_video.video.timing import find_midway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from ldf_video.video.files import Location
    from ldf_video.video.timeline import Timeline
    from ldf_video.video.timing import Midway

_BEAT_FRAMES = 16
_BEAT_PACKETS = 256


@contextlib.contextmanager
def open_sought(
    path: Location, first: int, *, fps: Fraction | None, threads: int, alive: Callable[[], None]
) -> Iterator[SoughtMedia]:
    """Opens a video so that its frames come from one in the middle on.

    Args:
        path: of the file.
        first: number of the first frame wanted, counted at `fps`.
        fps: of the frames that are made of the video's; None counts the video's own.
        threads: of the decoder, 0 to choose by the size of the pictures.
        alive: called every few packets.

    Raises:
        TimesError: if it is not sure which frame that is, or nothing is gained by seeking.
    """
    with contextlib.ExitStack() as stack:
        with _as_times_errors():
            file = stack.enter_context(path.open("rb"))
            require(not is_cut_short(file), "the file ends early")
            num_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            container = stack.enter_context(open_container(file))
            stream = picture_stream(container)
            set_threads(stream, threads)
            timeline, _ = read_timeline(container, stream, alive=alive)
        midway = find_midway(timeline.pts, time_base=timeline.time_base, first=first, fps=fps)
        yield SoughtMedia(container, timeline, midway, num_bytes=num_bytes, alive=alive)


class SoughtMedia:
    """The frames of a video from one in its middle on.

    Attributes:
        midway: where in the video they begin.
    """

    def __init__(
        self,
        container: InputContainer,
        timeline: Timeline,
        midway: Midway,
        *,
        num_bytes: int,
        alive: Callable[[], None],
    ) -> None:
        """Chooses the key frame to begin with.

        Raises:
            TimesError: if it is the first frame of the video.
        """
        self.midway = midway
        self._container, self._stream = container, picture_stream(container)
        self._timeline, self._alive = timeline, alive
        self._num_bytes, self._num_read = max(num_bytes, 1), 0
        wanted = timeline.pts[midway.num_inputs]
        num_before = int(np.searchsorted(timeline.entry_pts, wanted, side="right"))
        require(num_before > 0, "no key frame before it")
        self._entry_pts = int(timeline.entry_pts[num_before - 1])
        require(self._entry_pts > timeline.pts[0], "no key frame before it but the first")

    def position(self) -> float:
        """Returns where in the file the last packet ends, as a share; it never goes back."""
        return min(self._num_read / self._num_bytes, 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame from `midway` to the last, once.

        Raises:
            TimesError: as soon as another frame comes than the next, or none.
        """
        pts = self._timeline.pts
        entry = number = int(np.searchsorted(pts, self._entry_pts))
        for frame in self._decoded():
            if frame.pts is None:
                raise TimesError("a frame without a time")
            # What shows before the key frame leans on what was not decoded.
            if number == entry and frame.pts < self._entry_pts:
                continue
            require(number < len(pts) and frame.pts == pts[number], "another frame than the next")
            if number >= self.midway.num_inputs:
                yield frame
            elif number % _BEAT_FRAMES == 0:
                self._alive()
            number += 1
        require(number == len(pts), "fewer frames than packets")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets: Iterator[Packet[VideoStream] | None] = itertools.chain(self._packets(), [None])
        while True:
            with _as_times_errors():
                packet = next(packets)
                frames = self._stream.decode(packet)
            for frame in frames:
                if frame.time_base is None:  # PyAV takes it from the packet
                    frame.time_base = self._timeline.time_base
                yield frame
            if packet is None:
                return

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yields the packets from the key frame on; a seek may end before it."""
        self._container.seek(self._entry_pts, stream=self._stream)
        begun = False
        for number, packet in enumerate(self._container.demux(self._stream)):
            if not begun and number % _BEAT_PACKETS == 0:
                self._alive()
            if packet.size == 0 or packet.pts is None:
                continue
            if not begun:
                require(packet.pts <= self._entry_pts, "seeking ends behind the key frame")
                begun = packet.pts == self._entry_pts
            if begun:
                self._num_read = max(self._num_read, (packet.pos or 0) + packet.size)
                yield packet
        require(begun, "seeking ends behind the key frame")


@contextlib.contextmanager
def _as_times_errors() -> Iterator[None]:
    try:
        yield
    except (FFmpegError, OSError, ReadError) as error:
        raise TimesError(str(getattr(error, "strerror", None) or error)) from error
