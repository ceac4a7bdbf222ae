"""What a file is, found by decoding all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldf_video.errors import TruncatedError
from ldf_video.video.arrays import ARRAY_SUFFIX, open_array
from ldf_video.video.decode import Media, open_media
from ldf_video.video.pictures import DEFAULT_FPS
from ldf_video.video.presentation import frame_orientation
from ldf_video.video.series import SeriesMedia
from ldf_video.video.sources import folder_series
from ldf_video.video.timing import shown_seconds, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from ldf_video.video.files import Location
    from ldf_video.video.sources import Source


@dataclass(frozen=True)
class VideoInfo:
    """Facts about one file.

    Attributes:
        container: FFmpeg's name of the format, "pictures" or "npy".
        codec: FFmpeg's name of the codec; the suffix of pictures; "uint8" for arrays.
        width: columns of the first frame as stored, before rotation.
        height: rows of the first frame as stored, before rotation.
        fps: nominal frames a second (25 for arrays and pictures, which carry no times).
        num_frames: frames that decode, over all clips of an array.
        duration_seconds: from the first frame's start to the last one's end.
        rotation: counter-clockwise degrees that set the frames upright.
        truncated: whether the file is damaged, so that frames are missing or concealed.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration_seconds: float
    rotation: int
    truncated: bool = False


def probe(path: Location, *, alive: Callable[[], None] = lambda: None) -> VideoInfo:
    """Decodes `path` once and says what it is; headers are not believed.

    Args:
        path: of a file, or of a directory with one series of numbered pictures.
        alive: called after every frame.

    Raises:
        ReadError: if not one frame can be read.
    """
    if path.is_dir():
        return _probe_media(SeriesMedia(folder_series(path)), alive)
    if path.suffix.lower() == ARRAY_SUFFIX:
        shape = open_array(path).shape
        num_frames, (height, width) = math.prod(shape[:-3]), shape[-3:-1]
        seconds = float(num_frames / DEFAULT_FPS)
        return VideoInfo("npy", "uint8", width, height, DEFAULT_FPS, num_frames, seconds, 0)
    with open_media(path) as media:
        return _probe_media(media, alive)


def frame_size(source: Source) -> tuple[int, int]:
    """Height and width, upright, of the first frame of what `find_sources` found.

    Raises:
        ReadError: if it cannot be read.
    """
    if source.series is not None:
        first = next(SeriesMedia(source.series).frames())
    elif source.path.suffix.lower() == ARRAY_SUFFIX:
        height, width, _ = open_array(source.path).shape[-3:]
        return height, width
    else:
        with open_media(source.path) as media:
            first = next(media.frames())
    height, width = first.height, first.width
    return (width, height) if frame_orientation(first).transposed else (height, width)


def _probe_media(media: Media, alive: Callable[[], None]) -> VideoInfo:
    frames = timed(media.frames(), native_fps=media.fps)
    first, _ = next(frames)
    num_frames, truncated = 1, False
    end = shown_seconds(first, native_fps=media.fps)
    try:
        for frame, start in frames:
            num_frames += 1
            alive()
            end = start + shown_seconds(frame, native_fps=media.fps)
    except TruncatedError:
        truncated = True
    return VideoInfo(
        container=media.container_name,
        codec=media.codec_name,
        width=first.width,
        height=first.height,
        fps=media.fps,
        num_frames=num_frames,
        duration_seconds=float(end),
        rotation=first.rotation % 360,
        truncated=truncated,
    )
