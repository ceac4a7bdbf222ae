"""Decode with decord the files on which it gives the frames that PyAV gives, and no others.

decord believes headers, knows no edit lists and decodes far ahead of use. So PyAV's demuxer looks
at every packet first; frames get their times from there; and decord is asked for small frames,
which bounds what it holds.
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange

from ldf_video.errors import ReadError, UsageError
from ldf_video.video.decode import (
    nominal_fps,
    open_container,
    open_media,
    picture_stream,
    sample_aspect_ratio,
)
from ldf_video.video.geometry import SQUARE
from ldf_video.video.packets import TimesError, require
from ldf_video.video.resize import whole_size
from ldf_video.video.tail import is_cut_short
from ldf_video.video.timeline import CONTAINERS, Timeline, read_timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from typing import BinaryIO

    from numpy.typing import NDArray

    from ldf_video.video.files import Location
    from ldf_video.video.geometry import Geometry

_CODECS = ("h264", "hevc")
# Its scaler is not ours: from three times the size of the result, ours does most of the work.
_OVERSIZE = 3
# It was seen 2,800 frames ahead: these are 370 MB at worst, 140 MB for 32 x 32 from 16:9.
_MAX_FRAME_BYTES = 2**17


class NotForDecordError(Exception):
    """Why decord must not read a file; a short reason without the path."""


@dataclass(frozen=True)
class Facts:
    """What PyAV says about a file that decord may read.

    Attributes:
        container_name: FFmpeg's name of the format.
        codec_name: FFmpeg's name of the codec.
        height: rows of every frame.
        width: columns of every frame.
        fps: nominal frames a second.
        timeline: when each frame shows.
    """

    container_name: str
    codec_name: str
    height: int
    width: int
    fps: Fraction
    timeline: Timeline


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
            require(not is_cut_short(file), "the file ends early")
            return _examined(file)
    except (OSError, FFmpegError, ReadError, TimesError) as error:
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
        facts = examine(path)
        self._timeline = facts.timeline
        self.container_name, self.codec_name = facts.container_name, facts.codec_name
        self.fps = facts.fps
        self.source_size = facts.height, facts.width
        self._size = _inner_size(geometry, *self.source_size)
        if 3 * self._size[0] * self._size[1] > _MAX_FRAME_BYTES:
            size = f"{self._size[1]}x{self._size[0]}"
            raise NotForDecordError(f"frames of {size} are too large to decode ahead")
        self._reader = _open_reader(path, height=self._size[0], width=self._size[1])
        self._num_read = 0
        if len(self._reader) != len(self._timeline.pts):
            raise NotForDecordError("it counts other frames")

    def position(self) -> float:
        """Returns the share of the frames that were read."""
        return min(self._num_read / len(self._timeline.pts), 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame once; where decord fails, PyAV goes on from that frame.

        Raises:
            TruncatedError: from PyAV, after the frames before the damage.
        """
        pts = self._timeline.pts
        while self._num_read < len(pts):
            image = _next_image(self._reader)
            if image is None:
                yield from self._rest()
                return
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(pts[self._num_read]), self._timeline.time_base
            self._num_read += 1
            if self._num_read == len(pts):
                frame.duration = self._timeline.last_duration
            yield frame

    def _rest(self) -> Iterator[av.VideoFrame]:
        with open_media(self._path) as media:
            for frame in itertools.islice(media.frames(), self._num_read, None):
                self._num_read += 1
                yield frame


def _examined(file: BinaryIO) -> Facts:
    with open_container(file) as container:
        name = container.format.name
        require(name in CONTAINERS, f"the container {name}")
        require(len(container.streams.video) == 1, "several video streams")
        stream = picture_stream(container)
        codec = stream.codec_context
        require(codec.name in _CODECS, f"the codec {codec.name}")
        require(sample_aspect_ratio(stream) == SQUARE, "pixels that are not square")
        timeline, first = read_timeline(container, stream)
        _check_frame(first, full_range=codec.color_range == ColorRange.JPEG)
        return Facts(
            container_name=name,
            codec_name=codec.name,
            height=first.height,
            width=first.width,
            fps=nominal_fps(stream),
            timeline=timeline,
        )


def _check_frame(frame: av.VideoFrame, *, full_range: bool) -> None:
    require(frame.format.name == "yuv420p" and not full_range, f"pixels of {frame.format.name}")
    require(frame.width % 2 == 0 and frame.height % 2 == 0, "an odd size")
    require(frame.rotation % 360 == 0, "a rotation")
    require(not frame.interlaced_frame, "interlaced frames")


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
