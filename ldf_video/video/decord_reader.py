"""Decode with decord the files on which it gives the frames that PyAV gives, and no others.

decord believes headers, knows no edit lists and decodes far ahead of use. So PyAV's demuxer looks
at every packet first; frames get their times from there; and decord is asked for small frames,
which bounds what it holds.
"""

from __future__ import annotations

import importlib.util
import itertools
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange

from ldf_video.errors import ReadError, UsageError
from ldf_video.video.decode import open_container, open_media
from ldf_video.video.geometry import SQUARE
from ldf_video.video.hdr import HDR_TRANSFERS
from ldf_video.video.orientation import UPRIGHT, frame_orientation
from ldf_video.video.resize import is_untagged_hd, whole_size
from ldf_video.video.streams import (
    first_packets,
    frame_rate,
    picture_stream,
    sample_aspect_ratio,
)
from ldf_video.video.tail import is_cut_short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from fractions import Fraction
    from typing import BinaryIO

    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from ldf_video.video.files import Location
    from ldf_video.video.geometry import Geometry

_CODECS = ("h264", "hevc")
# FFmpeg's names of the formats whose packets all carry times.
_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
_HEAD_PACKETS = 64
# In no codec does a picture wait for more others to be shown.
_MAX_REORDERED = 16
# ITU-T H.264, table 7-1, and H.265, table 7-1.
_H264_SEQUENCE_SET, _H264_SETS = 7, (7, 8)
_HEVC_SEQUENCE_SET, _HEVC_SETS = 33, (32, 33, 34)
# Broken links and ends of a sequence, after which a decoder leaves frames out.
_HEVC_BREAKS = (16, 17, 18, 36, 37)
# Its scaler is not ours: from three times the size of the result, ours does most of the work.
_OVERSIZE = 3
# It was seen 2,800 frames ahead: these are 370 MB at worst, 140 MB for 32 x 32 from 16:9.
_MAX_FRAME_BYTES = 2**17


class NotForDecordError(Exception):
    """Why decord must not read a file; a short reason without the path."""


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise NotForDecordError(reason)


@dataclass(frozen=True)
class Facts:
    """What PyAV says about a file that decord may read.

    Attributes:
        container_name: FFmpeg's name of the format.
        codec_name: FFmpeg's name of the codec.
        height: rows of every frame.
        width: columns of every frame.
        fps: frames a second.
        pts: when each frame shows, in units of `time_base`, increasing, int64 (num_frames,).
        time_base: in seconds.
        last_duration: how long the last frame shows, in units of `time_base`; 0 if unsaid.
    """

    container_name: str
    codec_name: str
    height: int
    width: int
    fps: Fraction
    pts: NDArray[np.int64]
    time_base: Fraction
    last_duration: int


def check_decord() -> None:
    """Checks that decord is installed.

    Raises:
        UsageError: if it is not.
    """
    if importlib.util.find_spec("decord") is None:
        raise UsageError(
            "--reader decord: the package decord is not installed (it exists for Linux on x86-64 "
            "alone); use --reader pyav"
        )


def examine(path: Path) -> Facts:
    """Reads all packets of a file, decodes its first frames, and says what it is.

    Raises:
        NotForDecordError: if decord would give other frames than PyAV, or none.
    """
    try:
        with path.open("rb") as file:
            _require(not is_cut_short(file), "the file ends early")
            return _examined(file)
    except (OSError, FFmpegError, ReadError) as error:
        raise NotForDecordError(str(getattr(error, "strerror", None) or error)) from error


class DecordMedia:
    """A file that decord reads, with the frames and times that PyAV gives."""

    sample_aspect_ratio = SQUARE

    def __init__(self, path: Location, geometry: Geometry) -> None:
        """Opens the file.

        Args:
            path: of the file.
            geometry: what the frames will be brought to; they come larger, or as they are.

        Raises:
            NotForDecordError: if decord must not read it.
            UsageError: if decord is not installed.
        """
        check_decord()
        if not isinstance(path, Path):
            raise NotForDecordError("a URL")
        self._path = path
        self._facts = facts = examine(path)
        self.container_name, self.codec_name = facts.container_name, facts.codec_name
        self.fps = facts.fps
        self.source_size = facts.height, facts.width
        self._size = _inner_size(geometry, *self.source_size)
        if 3 * self._size[0] * self._size[1] > _MAX_FRAME_BYTES:
            size = f"{self._size[1]}x{self._size[0]}"
            raise NotForDecordError(f"frames of {size} are too large to decode ahead")
        self._reader = _open_reader(path, height=self._size[0], width=self._size[1])
        self._num_read = 0
        if len(self._reader) != len(facts.pts):
            raise NotForDecordError("it counts other frames")

    def position(self) -> float:
        """Returns the share of the frames that were read."""
        return min(self._num_read / len(self._facts.pts), 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame once; where decord fails, PyAV goes on from that frame.

        Raises:
            TruncatedError: from PyAV, after the frames before the damage.
        """
        pts = self._facts.pts
        while self._num_read < len(pts):
            image = _next_image(self._reader)
            if image is None:
                yield from self._rest()
                return
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(pts[self._num_read]), self._facts.time_base
            self._num_read += 1
            if self._num_read == len(pts):
                frame.duration = self._facts.last_duration
            yield frame

    def _rest(self) -> Iterator[av.VideoFrame]:
        with open_media(self._path) as media:
            for frame in itertools.islice(media.frames(), self._num_read, None):
                self._num_read += 1
                yield frame


def _examined(file: BinaryIO) -> Facts:
    with open_container(file) as container:
        name = container.format.name
        _require(name in _CONTAINERS, f"the container {name}")
        _require(len(container.streams.video) == 1, "several video streams")
        stream = picture_stream(container)
        codec, time_base = stream.codec_context, stream.time_base
        assert time_base is not None
        _require(codec.name in _CODECS, f"the codec {codec.name}")
        _require(sample_aspect_ratio(stream) == SQUARE, "pixels that are not square")
        packets = (packet for packet in container.demux(stream) if packet.size)
        head, is_whole = first_packets(packets)
        _require(bool(head), "no frame could be decoded")
        fps = frame_rate(container, stream, head, is_whole=is_whole)
        pts, last_duration, first = _read_times(stream, itertools.chain(head, packets))
        _check_frame(first, full_range=codec.color_range == ColorRange.JPEG)
        return Facts(
            container_name=name,
            codec_name=codec.name,
            height=first.height,
            width=first.width,
            fps=fps,
            pts=pts,
            time_base=time_base,
            last_duration=last_duration,
        )


def _read_times(
    stream: VideoStream, packets: Iterable[Packet[VideoStream]]
) -> tuple[NDArray[np.int64], int, av.VideoFrame]:
    """Looks at all packets and decodes the first of them, to see that they tell the truth.

    Returns:
        When each frame shows, how long the last does, and the first frame.
    """
    pts = array("q")
    head: list[av.VideoFrame] = []
    last = (0, 0)
    check_units = _UnitCheck(stream)
    for packet in packets:
        pts.append(_packet_time(packet, is_first=not pts))
        last = max(last, (pts[-1], packet.duration or 0))
        check_units(bytes(packet))
        if len(pts) <= _HEAD_PACKETS:
            head += stream.decode(packet)
    if len(pts) <= _HEAD_PACKETS:
        head += stream.decode(None)
    _require(bool(head), "no frame could be decoded")
    ordered = _in_display_order(np.frombuffer(pts, np.int64))
    head_pts = [frame.pts for frame in head]
    _require(ordered[: len(head)].tolist() == head_pts, "packets that are no frames")
    return ordered, last[1], head[0]


def _packet_time(packet: Packet[VideoStream], *, is_first: bool) -> int:
    _require(not packet.is_corrupt, "a damaged packet")
    _require(not packet.is_discard, "an edit list that leaves frames out")
    _require(not is_first or packet.is_keyframe, "no key frame at the beginning")
    if packet.pts is None:
        raise NotForDecordError("a frame without a time")
    _require(packet.pts >= 0, "an edit list that leaves frames out")
    _require(not packet.has_sidedata("new_extradata"), "frames that may change in size")
    return packet.pts


def _in_display_order(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    _require(bool(pts[0] == pts.min()), "frames before the first key frame")
    order = np.argsort(pts, kind="stable")
    moved = np.abs(order - np.arange(len(pts)))
    _require(bool(moved.max() <= _MAX_REORDERED), "times that jump back")
    ordered: NDArray[np.int64] = pts[order]
    steps = np.diff(ordered)
    _require(bool((steps > 0).all()), "two frames at one time")
    # One wild time is sorted behind others, where its frame is not.
    leaps = steps > _MAX_REORDERED * np.median(steps) if len(steps) else steps > 0
    waits = np.maximum.accumulate(order)[:-1] > np.arange(len(steps))
    _require(not bool((leaps & waits).any()), "times that leap")
    return ordered


class _UnitCheck:
    """Looks for what changes on the way in h264 or hevc packets as MP4 and Matroska have them."""

    def __init__(self, stream: VideoStream) -> None:
        """Reads the parameter sets up front (ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1)."""
        self._hevc = stream.codec_context.name == "hevc"
        self._extradata = stream.codec_context.extradata or b""
        length_at = 21 if self._hevc else 4
        is_whole = len(self._extradata) > length_at and self._extradata[0] == 1
        _require(is_whole, "no parameter sets up front")
        self._length_size = (self._extradata[length_at] & 3) + 1

    def __call__(self, data: bytes) -> None:
        """Looks at each unit of a packet; their lengths precede them."""
        position = 0
        while position + self._length_size < len(data):
            begin = position + self._length_size
            position = begin + int.from_bytes(data[position:begin], "big")
            kind = data[begin] >> 1 & 0x3F if self._hevc else data[begin] & 0x1F
            is_set = kind in (_HEVC_SETS if self._hevc else _H264_SETS)
            if is_set and data[begin:position] not in self._extradata:
                is_sequence = kind == (_HEVC_SEQUENCE_SET if self._hevc else _H264_SEQUENCE_SET)
                what = "frames that may change in size" if is_sequence else "headers that change"
                raise NotForDecordError(what)
            _require(not (self._hevc and kind in _HEVC_BREAKS), "a broken link between pictures")


def _check_frame(frame: av.VideoFrame, *, full_range: bool) -> None:
    _require(frame.format.name == "yuv420p" and not full_range, f"pixels of {frame.format.name}")
    _require(frame.width % 2 == 0 and frame.height % 2 == 0, "an odd size")
    _require(frame_orientation(frame) == UPRIGHT, "a rotation")
    _require(frame.color_trc not in HDR_TRANSFERS, "high dynamic range")
    _require(not is_untagged_hd(frame), "colours that the file does not name")
    _require(not frame.interlaced_frame, "interlaced frames")


def _inner_size(geometry: Geometry, height: int, width: int) -> tuple[int, int]:
    """The size, rows first, to ask of decord: as the file has it, or smaller."""
    whole = whole_size(geometry, height, width, box=geometry.box(height, width))
    if whole is None or whole[0] * _OVERSIZE >= height or whole[1] * _OVERSIZE >= width:
        return height, width
    # At an odd width its colours are computed a pixel, not a pair: at an even one they come 1.5
    # levels too dark.
    return whole[0] * _OVERSIZE, whole[1] * _OVERSIZE | 1


def _open_reader(path: Path, *, height: int, width: int) -> Any:
    import decord  # slow to load, and not on every platform

    decord.logging.set_level(decord.logging.QUIET)
    try:
        return decord.VideoReader(
            str(path.absolute()), width=width, height=height, num_threads=1, fault_tol=1e-9
        )
    # A name that is no UTF-8, a wrong count, and what decord raises itself.
    except (RuntimeError, UnicodeError, AssertionError, decord.DECORDError) as error:
        raise NotForDecordError(f"decord cannot open it: {error}".splitlines()[0]) from error


def _next_image(reader: Any) -> NDArray[np.uint8] | None:
    """The next frame (H, W, 3); None where decord has none or fails."""
    import decord
    from decord._ffi.base import DECORDLimitReachedError  # of no public module

    try:
        image: NDArray[np.uint8] = reader.next().asnumpy()
    except (StopIteration, RuntimeError, decord.DECORDError, DECORDLimitReachedError):
        return None
    # At some widths, 48 among them, it takes what pads a row of memory for further channels.
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)[:, : 3 * width]
    return np.ascontiguousarray(rows.reshape(height, width, 3))
