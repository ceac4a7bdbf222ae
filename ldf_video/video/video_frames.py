"""The frames of a video file from any one on, at one rate, and who decodes them."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ldf_video.video.decode import Media, open_media
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError
from ldf_video.video.geometry import SQUARE
from ldf_video.video.pictures import PictureMedia
from ldf_video.video.timing import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    import av

    from ldf_video.video.files import Location
    from ldf_video.video.geometry import Geometry

_T = TypeVar("_T")
_BEAT_FRAMES = 16


@dataclass(frozen=True)
class HowToRead:
    """How a video is read.

    Attributes:
        by_decord: whether by decord, where it gives the right frames.
        threads: of PyAV's decoder, 0 to choose by the size of the pictures.
        alive: called every few frames.
    """

    by_decord: bool
    threads: int
    alive: Callable[[], None]


@dataclass(frozen=True)
class VideoFrames:
    """Decoded frames, to be read once.

    Attributes:
        fps: frames a second of what `frames` gives: the geometry's, else the file's own.
        frames: yields them; a frame held over several output times is the same object again. Raises
            TruncatedError after the last good frame where the file is damaged.
        position: returns how much of the file has been read, in [0, 1]; it never goes back.
        why_pyav: why decord was not the reader although asked for, else empty.
        note: returns what a user must know of the frames that were given, empty if nothing.
        source_size: rows and columns of the file's frames where these come smaller, else None.
        sample_aspect_ratio: width of a pixel as shown, over its height, before rotation.
    """

    fps: Fraction
    frames: Iterator[av.VideoFrame]
    position: Callable[[], float]
    why_pyav: str = ""
    note: Callable[[], str] = str
    source_size: tuple[int, int] | None = None
    sample_aspect_ratio: Fraction = SQUARE


def open_video(path: Location, geometry: Geometry, first: int, how: HowToRead) -> VideoFrames:
    """Opens a video, an animation or a still picture; its first frame is decoded here.

    Args:
        path: of the file.
        geometry: says the rate, and the size for readers that give smaller frames.
        first: number of the first frame to give, counted at the geometry's rate. All before it are
            decoded and discarded: seeking is inexact in many files.
        how: who reads.

    Raises:
        ReadError: if it has no frame.
        UsageError: if the reader is not installed.
    """
    with contextlib.ExitStack() as stack:
        media, why_pyav = _open_by(path, geometry, how, stack)
        # From here on the frames own the open file: they close it when read to the end or dropped.
        decoded = begun(_owning(_beating(media.frames(), how.alive), stack.pop_all()))
    if geometry.fps is not None:
        decoded = resample(decoded, native_fps=media.fps, fps=geometry.fps)
    return VideoFrames(
        fps=geometry.fps or media.fps,
        frames=itertools.islice(decoded, first, None),
        position=media.position,
        why_pyav=why_pyav,
        note=media.note if isinstance(media, PictureMedia) else str,
        source_size=media.source_size if isinstance(media, DecordMedia) else None,
        sample_aspect_ratio=media.sample_aspect_ratio,
    )


def _open_by(
    path: Location, geometry: Geometry, how: HowToRead, stack: contextlib.ExitStack
) -> tuple[Media, str]:
    why_pyav = ""
    if how.by_decord:
        try:
            return DecordMedia(path, geometry), ""
        except NotForDecordError as error:
            why_pyav = str(error)
    media = stack.enter_context(open_media(path, threads=how.threads))
    return media, "" if isinstance(media, PictureMedia) else why_pyav


def begun(items: Iterator[_T]) -> Iterator[_T]:
    """Makes the first of `items` now, so that its errors come now."""
    first = list(itertools.islice(items, 1))
    return itertools.chain(first, items)


def _beating(frames: Iterator[_T], alive: Callable[[], None]) -> Iterator[_T]:
    for number, frame in enumerate(frames):
        if number % _BEAT_FRAMES == 0:
            alive()
        yield frame


def _owning(frames: Iterator[_T], resources: contextlib.ExitStack) -> Iterator[_T]:
    with resources:
        yield from frames
