"""The frames of a video file from any one on, at one rate: who decodes them, and from where."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ldf_video.video.decode import Media, open_media
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError
from ldf_video.video.geometry import SQUARE
from ldf_video.video.packets import TimesError
from ldf_video.video.pictures import PicturesMedia
from ldf_video.video.seek import open_sought
from ldf_video.video.timeline import CONTAINERS
from ldf_video.video.timing import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    import av

    from ldf_video.video.files import Location
    from ldf_video.video.geometry import Geometry

_T = TypeVar("_T")
_BEAT_FRAMES = 16
# Looking at all packets costs about as much as decoding so many small frames.
_MIN_SOUGHT = 300


@dataclass(frozen=True)
class HowToRead:
    """How a video is read.

    Attributes:
        by_decord: whether by decord, where it gives the right frames.
        seek: whether it may be sought in.
        threads: of PyAV's decoder, 0 to choose by the size of the pictures.
        alive: called every few frames and packets.
    """

    by_decord: bool
    seek: bool
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
        sought: whether decoding began at a key frame in the middle.
        source_size: rows and columns of the file's frames where these come smaller, else None.
        sample_aspect_ratio: width of a pixel as shown, over its height, before rotation.
    """

    fps: Fraction
    frames: Iterator[av.VideoFrame]
    position: Callable[[], float]
    why_pyav: str = ""
    sought: bool = False
    source_size: tuple[int, int] | None = None
    sample_aspect_ratio: Fraction = SQUARE


def open_video(path: Location, geometry: Geometry, first: int, how: HowToRead) -> VideoFrames:
    """Opens a video, an animation or a still picture; its first frame is decoded here.

    Args:
        path: of the file.
        geometry: says the rate, and the size for readers that give smaller frames.
        first: number of the first frame to give, counted at the geometry's rate. It is sought where
            that is sure to be exact, else all before it are decoded and discarded.
        how: who reads.

    Raises:
        ReadError: if it has no frame.
        UsageError: if the reader is not installed.
    """
    with contextlib.ExitStack() as stack:
        media, why_pyav = _open_by(path, geometry, how, stack)
        # From here on the frames own the open file: they close it when read to the end or dropped.
        decoded = begun(_owning(_beating(media.frames(), how.alive), stack.pop_all()))
    native_first = first if geometry.fps is None else first / geometry.fps * media.fps
    if how.seek and native_first >= _MIN_SOUGHT and _may_seek(path, media):
        with contextlib.suppress(TimesError):
            sought = _SoughtFrames(path, geometry, first, how, native_fps=media.fps)
            fps = geometry.fps or media.fps
            return VideoFrames(
                fps=fps,
                frames=sought.frames(),
                position=sought.position,
                why_pyav=why_pyav,
                sought=True,
                sample_aspect_ratio=media.sample_aspect_ratio,
            )
    if geometry.fps is not None:
        decoded = resample(decoded, native_fps=media.fps, fps=geometry.fps)
    return VideoFrames(
        fps=geometry.fps or media.fps,
        frames=itertools.islice(decoded, first, None),
        position=media.position,
        why_pyav=why_pyav,
        source_size=media.source_size if isinstance(media, DecordMedia) else None,
        sample_aspect_ratio=media.sample_aspect_ratio,
    )


class _SoughtFrames:
    """Frames from one in the middle on; where another than the next comes, the file is reread."""

    def __init__(
        self,
        path: Location,
        geometry: Geometry,
        first: int,
        how: HowToRead,
        *,
        native_fps: Fraction,
    ) -> None:
        """Decodes the first of them.

        Raises:
            TimesError: if seeking would not be exact for sure.
        """
        self._path, self._geometry, self._how = path, geometry, how
        self._number = first
        with contextlib.ExitStack() as stack:
            media = stack.enter_context(
                open_sought(path, first, fps=geometry.fps, threads=how.threads, alive=how.alive)
            )
            self._decoded = begun(_owning(_beating(media.frames(), how.alive), stack.pop_all()))
        if geometry.fps is not None:
            self._decoded = resample(
                self._decoded, native_fps=native_fps, fps=geometry.fps, midway=media.midway
            )
        self._position, self._furthest = media.position, 0.0

    def position(self) -> float:
        self._furthest = max(self._furthest, self._position())
        return self._furthest

    def frames(self) -> Iterator[av.VideoFrame]:
        try:
            for frame in self._decoded:
                self._number += 1
                yield frame
            return
        except TimesError:
            self.position()
        how = dataclasses.replace(self._how, seek=False)
        whole = open_video(self._path, self._geometry, self._number, how)
        self._position = whole.position
        yield from whole.frames


def _may_seek(path: Location, media: Media) -> bool:
    # Over a network looking at all packets costs more than what it saves.
    is_here = isinstance(path, Path)
    return is_here and media.container_name in CONTAINERS and not isinstance(media, DecordMedia)


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
    return media, "" if isinstance(media, PicturesMedia) else why_pyav


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
