"""Clips as streams of frames, ready for a model: cropped, scaled and resampled in time."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from ldf_video.errors import UsageError
from ldf_video.video.arrays import ARRAY_SUFFIX, ArrayClip, open_array
from ldf_video.video.decode import Media, open_media
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError, check_decord
from ldf_video.video.pictures import DEFAULT_FPS, PicturesMedia
from ldf_video.video.resize import Resizer
from ldf_video.video.sources import Source, folder_series
from ldf_video.video.timing import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    import av
    import numpy as np
    from numpy.typing import NDArray

    from ldf_video.video.geometry import Geometry
    from ldf_video.video.series import Series

Reader = Literal["auto", "pyav", "decord"]
SKIP = -1
"""Instead of a first frame: leave the clip out."""

_T = TypeVar("_T")
_BEAT_FRAMES = 16


@dataclass(frozen=True)
class ClipStream:
    """One clip, to be read once.

    Attributes:
        index: which clip of an array (N, T, height, width, 3), 0-based; None where a file is one
            clip.
        fps: frames a second of what `frames` gives: the geometry's, else the source's own.
        frames: yields uint8 (height, width, 3) RGB arrays, C-contiguous. A frame held over several
            output times is the same array again, so treat them as read-only. Raises TruncatedError
            after the last good frame where the source is damaged.
        position: returns how much of the source, other clips included, has been read, in [0, 1]; it
            never goes back, and is for showing progress only.
        why_pyav: why a video was not read by decord as asked, else empty.
        first_frame: number of the first frame that `frames` gives, as asked. Where the clip has no
            such frame, `frames` gives none and ends.
        sought: whether the reader came to that frame by seeking in the file, not by decoding all
            before it.
    """

    index: int | None
    fps: Fraction
    frames: Iterator[NDArray[np.uint8]]
    position: Callable[[], float]
    why_pyav: str = ""
    first_frame: int = 0
    sought: bool = False


@dataclass(frozen=True)
class _How:
    """How videos are read, see `open_clips`."""

    reader: Reader
    seek: bool
    threads: int
    alive: Callable[[], None]


def check_reader(reader: str) -> None:
    """Checks that a reader exists and is installed.

    Raises:
        UsageError: if not.
    """
    if reader not in ("auto", "pyav", "decord"):
        raise UsageError(f"--reader {reader}: expected auto, pyav or decord")
    if reader == "decord":
        check_decord()


def _nothing() -> None:
    pass


def open_clips(
    source: Source | Path,
    geometry: Geometry,
    *,
    reader: Reader = "auto",
    first_frames: Sequence[int] | None = None,
    seek: bool = True,
    threads: int = 0,
    alive: Callable[[], None] = _nothing,
) -> Iterator[ClipStream]:
    """Yields the clips of one source; memory stays flat however long they are.

    A clip is given only once its first frame has been decoded. The frames of an array and of a
    series of pictures carry no times: all are given, and `geometry.fps` (else 25) only says how
    fast they play.

    Args:
        source: what `find_sources` found, or the path of a video, an animation, a still picture, a
            folder with one series of numbered pictures, or a .npy array of uint8 (T, H, W, 3) or
            (N, T, H, W, 3).
        geometry: what the frames are brought to.
        reader: of videos. "auto" is PyAV, which is the faster from first to last frame; "decord"
            reads what it reads right, PyAV the rest.
        first_frames: for each clip of the source (one where it is one clip) the number of the first
            frame wanted, counted as frames are given, after resampling; SKIP leaves the clip out.
            None gives all from frame 0. Frames before it are taken to be sound: they are neither
            looked at nor reported where seeking passes over them.
        seek: whether a video may be sought in. The frames are the same either way.
        threads: of PyAV's decoder, 0 for FFmpeg's choice.
        alive: called every few frames and packets, given or not, so that who waits for a far frame
            knows that work goes on.

    Raises:
        ReadError: if not one frame can be read; the message is a short reason without the path.
        UsageError: if the reader does not exist here.
        ValueError: if `first_frames` has not one number a clip, in [0, ...) or SKIP.
    """
    check_reader(reader)
    path, series = _place(source)
    if path.suffix.lower() == ARRAY_SUFFIX and series is None:
        yield from _array_clips(open_array(path), geometry, first_frames)
        return
    (first,) = _checked(first_frames, num_clips=1)
    if first == SKIP:
        return
    if series is not None:
        yield _series_clip(series, geometry, first)
    else:
        yield _video_clip(path, geometry, first, _How(reader, seek, threads, alive))


def count_clips(source: Source | Path) -> int | None:
    """Returns how many clips an array (N, T, H, W, 3) holds; None where a source is one clip.

    Raises:
        ReadError: if it is a .npy file without such an array; other files are not looked at.
    """
    path, series = _place(source)
    if path.suffix.lower() != ARRAY_SUFFIX or series is not None:
        return None
    array = open_array(path)
    return len(array) if array.ndim == 5 else None


def _place(source: Source | Path) -> tuple[Path, Series | None]:
    path = source.path if isinstance(source, Source) else source
    series = source.series if isinstance(source, Source) else None
    if series is None and path.is_dir():
        series = folder_series(path)
    return path, series


def _checked(first_frames: Sequence[int] | None, *, num_clips: int) -> Sequence[int]:
    if first_frames is None:
        return [0] * num_clips
    if len(first_frames) != num_clips or min(first_frames) < SKIP:
        raise ValueError(
            f"got first frames {first_frames}, expected {num_clips} numbers of frames or SKIP"
        )
    return first_frames


def _array_clips(
    array: NDArray[np.uint8], geometry: Geometry, first_frames: Sequence[int] | None
) -> Iterator[ClipStream]:
    fps = geometry.fps or DEFAULT_FPS
    clips = array[None] if array.ndim == 4 else array
    for number, first in enumerate(_checked(first_frames, num_clips=len(clips))):
        if first == SKIP:
            continue
        offset, share = number / len(clips), 1 / len(clips)
        media = ArrayClip(clips[number], first=first, offset=offset, share=share)
        index = None if array.ndim == 4 else number
        frames = _resized(media.frames(), geometry)
        yield ClipStream(index, fps, frames, media.position, first_frame=first)


def _series_clip(series: Series, geometry: Geometry, first: int) -> ClipStream:
    media = PicturesMedia(series.folder, series.names, first=first)
    frames = _resized(_begun(media.frames()), geometry)
    fps = geometry.fps or media.fps
    return ClipStream(None, fps, frames, media.position, first_frame=first)


def _video_clip(path: Path, geometry: Geometry, first: int, how: _How) -> ClipStream:
    with contextlib.ExitStack() as stack:
        media, why_pyav = _open_by(path, geometry, how, stack)
        # From here on the frames own the open file: they close it when read to the end or dropped.
        decoded = _begun(_owning(_beating(media.frames(), how.alive), stack.pop_all()))
    if geometry.fps is not None:
        decoded = resample(decoded, native_fps=media.fps, fps=geometry.fps)
    source_size = media.source_size if isinstance(media, DecordMedia) else None
    frames = _resized(itertools.islice(decoded, first, None), geometry, source_size=source_size)
    fps = geometry.fps or media.fps
    return ClipStream(None, fps, frames, media.position, why_pyav, first)


def _open_by(
    path: Path, geometry: Geometry, how: _How, stack: contextlib.ExitStack
) -> tuple[Media, str]:
    why_pyav = ""
    if how.reader == "decord":
        try:
            return DecordMedia(path, geometry), ""
        except NotForDecordError as error:
            why_pyav = str(error)
    media = stack.enter_context(open_media(path, threads=how.threads))
    return media, "" if isinstance(media, PicturesMedia) else why_pyav


def _begun(items: Iterator[_T]) -> Iterator[_T]:
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


def _resized(
    frames: Iterable[av.VideoFrame],
    geometry: Geometry,
    *,
    source_size: tuple[int, int] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    resize = Resizer(geometry, source_size=source_size)
    last: tuple[av.VideoFrame, NDArray[np.uint8]] | None = None
    for frame in frames:
        if last is None or last[0] is not frame:
            last = frame, resize(frame)
        yield last[1]
