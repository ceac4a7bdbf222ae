"""When each frame of a video shows, told by its packets without decoding them all."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ldf_video.video.packets import TimesError, packet_inspector, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""FFmpeg's names of the formats whose packets all carry times, and that seek by an index."""

_HEAD_PACKETS = 64
_BEAT_PACKETS = 256
# In no codec does a picture wait for as many others to be shown.
_MAX_REORDERED = 64


@dataclass(frozen=True)
class Timeline:
    """The frames of a video in the order in which they show; 8 bytes a frame.

    Attributes:
        pts: when each shows, in units of `time_base`, strictly increasing, int64 (num_frames,).
        time_base: in seconds.
        entry_pts: of the frames at which decoding may begin, increasing, int64.
        last_duration: how long the last frame shows, in units of `time_base`; 0 if unsaid.
    """

    pts: NDArray[np.int64]
    time_base: Fraction
    entry_pts: NDArray[np.int64]
    last_duration: int


def read_timeline(
    container: InputContainer, stream: VideoStream, *, alive: Callable[[], None] = lambda: None
) -> tuple[Timeline, av.VideoFrame]:
    """Demuxes all packets of a stream and decodes its beginning, to see that they tell the truth.

    The container is read to its end, and its decoder has been used: seek in it before reading on.

    Args:
        container: just opened.
        stream: of pictures, in it.
        alive: called every few packets.

    Returns:
        The timeline, and the first frame.

    Raises:
        TimesError: if a frame's number cannot be told from the packets' times for sure.
        FFmpegError, OSError: if the file cannot be read.
    """
    require(container.format.name in CONTAINERS, f"the container {container.format.name}")
    inspect = packet_inspector(stream)
    pts, entry_pts = array("q"), array("q")
    head: list[av.VideoFrame] = []
    head_pts: list[int | None] = []
    last = (0, 0)
    for number, packet in enumerate(container.demux(stream)):
        if number % _BEAT_PACKETS == 0:
            alive()
        if packet.size:
            pts.append(_packet_time(packet, is_first=not pts))
            last = max(last, (pts[-1], packet.duration or 0))
            if inspect(packet):
                entry_pts.append(pts[-1])
        if number < _HEAD_PACKETS:
            frames = stream.decode(packet)
            head, head_pts = head or frames[:1], head_pts + [frame.pts for frame in frames]
    require(bool(head), "no frame could be decoded")
    ordered = _in_display_order(np.frombuffer(pts, np.int64))
    require(ordered[: len(head_pts)].tolist() == head_pts, "packets that are no frames")
    assert stream.time_base is not None
    entries = np.sort(np.frombuffer(entry_pts, np.int64))
    return Timeline(ordered, stream.time_base, entries, last[1]), head[0]


def _packet_time(packet: Packet[VideoStream], *, is_first: bool) -> int:
    require(not packet.is_corrupt, "a damaged packet")
    require(not packet.is_discard, "an edit list that leaves frames out")
    require(not is_first or packet.is_keyframe, "no key frame at the beginning")
    if packet.pts is None:
        raise TimesError("a frame without a time")
    require(packet.pts >= 0, "an edit list that leaves frames out")
    require(not packet.has_sidedata("new_extradata"), "frames that may change in size")
    return packet.pts


def _in_display_order(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    require(bool(pts[0] == pts.min()), "frames before the first key frame")
    order = np.argsort(pts, kind="stable")
    moved = np.abs(order - np.arange(len(pts)))
    require(bool(moved.max() <= _MAX_REORDERED), "times that jump back")
    ordered: NDArray[np.int64] = pts[order]
    require(bool((np.diff(ordered) > 0).all()), "two frames at one time")
    return ordered
