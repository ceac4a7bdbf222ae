"""Decode with decord the files on which it gives the frames that PyAV gives, and no others.

decord believes headers, knows no edit lists and decodes far ahead of use. So PyAV's demuxer looks
at every packet first; frames get their times from there; and decord is asked for small frames,
which bounds what it holds.
"""

from __future__ import annotations

import itertools
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange

from ldf_video.errors import reason_of
from ldf_video.video.colour import HDR_TRANSFERS, is_untagged_hd
from ldf_video.video.decode import FilmMedia, open_media
from ldf_video.video.geometry import SQUARE
from ldf_video.video.media import Media
from ldf_video.video.pictures import PictureMedia
from ldf_video.video.presentation import UPRIGHT, frame_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.packet import Packet
    from numpy.typing import NDArray

    from ldf_video.files.locations import Location
    from ldf_video.video.geometry import Geometry

# FFmpeg's names of the formats whose packets all carry times.
_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
# For each codec: where its extradata says how long lengths of units are (ISO/IEC 14496-15, 5.3.3.1
# and 8.3.3.1); then kinds of units (ITU-T H.264, table 7-1, and H.265, table 7-1): sequence sets,
# all parameter sets, broken links and ends of a sequence, after which a decoder leaves frames out.
_CODECS: dict[str, tuple[int, int, tuple[int, ...], tuple[int, ...]]] = {
    "h264": (4, 7, (7, 8), ()),
    "hevc": (21, 33, (32, 33, 34), (16, 17, 18, 36, 37)),
}
_HEAD_PACKETS = 64
# No codec lets a picture wait for more others.
_MAX_REORDERED = 16
# decord's scaler is not ours: from three times the target's size, ours does most of the work.
_OVERSIZE = 3
# decord was seen 2,800 frames ahead: 370 MB at worst, 140 MB for 32 x 32 from 16:9.
_MAX_FRAME_BYTES = 2**17


class NotForDecordError(Exception):
    """Why decord must not read a file; a short reason without the path."""


class DecordMedia(Media):
    """A film that decord reads, with the frames and times that PyAV gives."""

    def __init__(self, path: Location, geometry: Geometry) -> None:
        """Looks at all packets of a film, and opens it, for frames of at least this geometry.

        Raises:
            NotForDecordError: if decord would give other frames than PyAV, or none.
            ReadError: if PyAV cannot read it either.
        """
        if not isinstance(path, Path):
            raise NotForDecordError("a URL")
        self._path = path
        with open_media(path) as film:
            if not isinstance(film, FilmMedia):
                is_picture = isinstance(film, PictureMedia)  # of which nobody expects it
                raise NotForDecordError(
                    "" if is_picture else f"the container {film.container_name}"
                )
            self.container_name, self.codec_name = film.container_name, film.codec_name
            self.fps, self._time_base = film.fps, film.time_base
            try:
                first, self._pts, self._last_duration = _examined(film)
            except FFmpegError as error:
                raise NotForDecordError(reason_of(error)) from error
        self.source_size = first.height, first.width
        height, width = _inner_size(geometry, *self.source_size)
        is_small = 3 * height * width <= _MAX_FRAME_BYTES
        _require(is_small, f"frames of {width}x{height} are too large to decode ahead")
        self._reader = _open_reader(path, height=height, width=width)
        self._num_all = len(self._pts)
        _require(len(self._reader) == self._num_all, "it counts other frames")

    def frames(self, first: int = 0) -> Iterator[av.VideoFrame]:
        """Yields every frame once; where decord fails, PyAV goes on from that frame."""
        for pts in self._pts.tolist():
            image = _next_image(self._reader)
            if image is None:
                break
            self._num_read += 1
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts, self._time_base
            if self._num_read == self._num_all:
                frame.duration = self._last_duration
            yield frame
        else:
            return
        with open_media(self._path) as media:
            yield from itertools.islice(media.frames(), self._num_read, None)


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise NotForDecordError(reason)


def _examined(film: FilmMedia) -> tuple[av.VideoFrame, NDArray[np.int64], int]:
    """Looks at all packets of a film, and decodes the first to see that they tell the truth.

    Returns the first frame, when each shows, and how long the last does, 0 if unsaid.
    """
    stream, codec = film.stream, film.stream.codec_context
    _require(film.container_name in _CONTAINERS, f"the container {film.container_name}")
    _require(not film.is_cut_short, "the file ends early")
    _require(len(stream.container.streams.video) == 1, "several video streams")
    _require(film.codec_name in _CODECS, f"the codec {film.codec_name}")
    _require(film.sample_aspect_ratio == SQUARE, "pixels that are not square")
    _require(not film.has_margins, "margins")
    times, head, last = array("q"), list[av.VideoFrame](), (0, 0)
    for packet in film.packets:
        times.append(_packet_time(packet, is_first=not times))
        last = max(last, (times[-1], packet.duration or 0))
        check_units(codec, bytes(packet))
        if len(times) <= _HEAD_PACKETS:
            head += stream.decode(packet)
    _require(film.is_sound, "a damaged packet")
    if len(times) <= _HEAD_PACKETS:
        head += stream.decode(None)
    _require(bool(head), "no frame could be decoded")
    pts = display_order(np.frombuffer(times, np.int64))
    known = [frame.pts for frame in head]
    _require(pts[: len(head)].tolist() == known, "packets that are no frames")
    _check_frame(head[0], full_range=codec.color_range == ColorRange.JPEG)
    return head[0], pts, last[1]


def _packet_time(packet: Packet[Any], *, is_first: bool) -> int:
    _require(not packet.is_corrupt, "a damaged packet")
    _require(not packet.is_discard, "an edit list that leaves frames out")
    _require(not is_first or packet.is_keyframe, "no key frame at the beginning")
    if packet.pts is None:
        raise NotForDecordError("a frame without a time")
    _require(packet.pts >= 0, "an edit list that leaves frames out")
    _require(not packet.has_sidedata("new_extradata"), "frames that may change in size")
    return packet.pts


def display_order(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns times (num_frames,) of packets as their frames show, if decoders keep that order."""
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


def check_units(codec: Any, data: bytes) -> None:
    """Checks that a packet, as MP4 and Matroska have it, changes no parameters on the way."""
    length_at, sequence_set, sets, breaks = _CODECS[codec.name]
    extradata = codec.extradata or b""
    is_whole = len(extradata) > length_at and extradata[0] == 1
    _require(is_whole, "no parameter sets up front")
    length_size = (extradata[length_at] & 3) + 1
    position = 0
    while position + length_size < len(data):
        begin = position + length_size
        position = begin + int.from_bytes(data[position:begin], "big")
        kind = data[begin] >> 1 & 0x3F if codec.name == "hevc" else data[begin] & 0x1F
        if kind in sets and data[begin:position] not in extradata:
            _require(kind != sequence_set, "frames that may change in size")
            raise NotForDecordError("headers that change")
        _require(kind not in breaks, "a broken link between pictures")


def _check_frame(frame: av.VideoFrame, *, full_range: bool) -> None:
    _require(frame.format.name == "yuv420p" and not full_range, f"pixels of {frame.format.name}")
    _require(frame.width % 2 == 0 and frame.height % 2 == 0, "an odd size")
    _require(frame_orientation(frame) == UPRIGHT, "a rotation")
    _require(frame.color_trc not in HDR_TRANSFERS, "high dynamic range")
    _require(not is_untagged_hd(frame), "colours that the file does not name")
    _require(not frame.interlaced_frame, "interlaced frames")


def _inner_size(geometry: Geometry, height: int, width: int) -> tuple[int, int]:
    """The size, rows first, to ask of decord: as the file has it, or smaller."""
    whole = geometry.whole_size(height, width, box=geometry.box(height, width))
    if whole is None or whole[0] * _OVERSIZE >= height or whole[1] * _OVERSIZE >= width:
        return height, width
    # At an even width it computes colours for pairs of pixels, and they come 1.5 levels too dark.
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
    # At some widths, such as 48, it takes the padding of a row in memory for further channels.
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)[:, : 3 * width]
    return np.ascontiguousarray(rows.reshape(height, width, 3))
