"""Where in a film reading may begin, if it then gives the very frames of reading it from 0.

All packets are looked at once, which takes about a hundredth of decoding them. Seeking is trusted
if every packet has a time, the times rise, the file's first picture has the lowest of them, and the
key frame that seeking leads to decodes on its own. Else the film is decoded from its start.
"""

from __future__ import annotations

import functools
import heapq
import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from av.error import FFmpegError

from ldf_video.errors import ReadError
from ldf_video.files.entry import UNKNOWN
from ldf_video.files.locations import look_at
from ldf_video.video.containers import open_container, picture_stream, stream_decoder
from ldf_video.video.timing import MAX_GAP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from ldf_video.files.locations import Location

FROM_SECONDS = 4
"""Before this, decoding from the start costs no more than looking at all packets."""
_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_REORDERED = 64
"""Packets behind which none comes that shows before them: codecs hold 16 pictures at most."""
_ALIVE_PACKETS = 4096
_KEPT = 4  # films of which the way of seeking is remembered


@dataclass(frozen=True)
class Entry:
    """Where reading begins: a time to seek to, the first frame's there, and the file's first.

    All in the stream's units.
    """

    seek_to: int
    first: int
    origin: int

    def timed(
        self, frames: Iterable[av.VideoFrame], *, time_base: Fraction
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yields frames with the seconds when they start, without those that lean on others."""
        for frame in frames:
            if frame.pts is not None and frame.pts >= self.first:
                yield frame, (frame.pts - self.origin) * time_base


@dataclass(frozen=True)
class _Index:
    origin: int
    keys: list[tuple[int, int]]  # pts of key frames, in order, and dts, or pts for want of it


def find_entry(path: Location, seconds: Fraction, *, alive: Callable[[], None]) -> Entry | None:
    """Returns where to begin for the frames from `seconds` on; None for the start of the film.

    `alive` is called now and then.
    """
    entry = look_at(path)
    if seconds < FROM_SECONDS or entry is None or UNKNOWN in (entry.size, entry.mtime_ns):
        return None
    try:
        index = _index(path, entry.size, entry.mtime_ns, alive)
        if index is None:
            return None
        with path.open("rb") as file, open_container(file) as container:
            return _entry(container, index, seconds)
    except (ReadError, FFmpegError, OSError):
        return None  # reading it from the start will say why


def _entry(container: InputContainer, index: _Index, seconds: Fraction) -> Entry | None:
    stream = picture_stream(container)
    base = cast("Fraction", stream.time_base)
    target = index.origin + math.floor(seconds / base)
    place = bisect_right(index.keys, target, key=lambda key: key[0]) - 1
    if place < 1:
        return None
    pts, dts = index.keys[place]
    decoder = stream_decoder(stream, 1)
    for seek_to in dict.fromkeys((pts, dts)):
        container.seek(seek_to, stream=stream)
        decoder.flush_buffers()
        first: int | None = None
        for packet in container.demux(stream):
            if first is None:
                if not packet.is_keyframe or packet.pts is None or packet.pts > pts:
                    break
                first = packet.pts
            shown = [f for f in decoder.decode(packet) if f.pts is None or f.pts >= first]
            if shown:
                if shown[0].pts == first and not shown[0].is_corrupt:
                    return Entry(seek_to, first, index.origin)
                break
    return None


@functools.lru_cache(_KEPT)
def _index(path: Location, size: int, mtime_ns: int, alive: Callable[[], None]) -> _Index | None:
    """Looks at all packets of a film; None if its times are not such that seeking is exact."""
    with path.open("rb") as file, open_container(file) as container:
        stream = picture_stream(container)
        if container.format.name not in _CONTAINERS:
            return None
        base = cast("Fraction", stream.time_base)
        keys: list[tuple[int, int]] = []
        times: list[int] = []  # a heap of those that may not come in order
        lowest: int | None = None
        last: int | None = None

        def is_right(pts: int) -> bool:
            nonlocal last
            before, last = last, pts
            return before is None or 0 < (pts - before) * base <= MAX_GAP_SECONDS

        for number, packet in enumerate(container.demux(stream)):
            if number % _ALIVE_PACKETS == 0:
                alive()
            if packet.size == 0:
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            if packet.is_discard:
                continue
            lowest = packet.pts if lowest is None else min(lowest, packet.pts)
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
            heapq.heappush(times, packet.pts)
            if len(times) > _REORDERED and not is_right(heapq.heappop(times)):
                return None
        while times:
            if not is_right(heapq.heappop(times)):
                return None
    origin = _first_shown(path)
    return None if origin is None or origin != lowest else _Index(origin, sorted(keys))


def _first_shown(path: Location) -> int | None:
    with path.open("rb") as file, open_container(file) as container:
        stream: VideoStream = picture_stream(container)
        decoder = stream_decoder(stream, 1)
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                return frame.pts
    return None
