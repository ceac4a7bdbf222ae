"""Clips as streams of frames, ready for a model: cropped, scaled and resampled in time.

The way of a video: `decode.open_media` opens its file, `containers` chooses the stream and finds
its rate, `decode.FilmMedia` decodes the packets while `damage` counts what is lost, `timing` says
when frames show and changes their rate, `presentation` makes them RGB of the right part and size.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from ldf_video.errors import UsageError
from ldf_video.video.arrays import ARRAY_SUFFIX, ArrayClip, num_clips, open_array
from ldf_video.video.decode import Media, open_media
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError, check_decord
from ldf_video.video.pictures import DEFAULT_FPS, PictureMedia
from ldf_video.video.presentation import Resizer
from ldf_video.video.series import Series, SeriesMedia
from ldf_video.video.sources import Source, folder_series
from ldf_video.video.timing import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from fractions import Fraction

    import av
    import numpy as np
    from numpy.typing import NDArray

    from ldf_video.video.files import Location
    from ldf_video.video.geometry import Geometry

Reader = Literal["auto", "pyav", "decord"]
SKIP = -1
"""Instead of a first frame: leave the clip out."""
_ALIVE_FRAMES = 16
_T = TypeVar("_T")


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
        note: returns what a user must know of the frames that were given, empty if nothing.
    """

    index: int | None
    fps: Fraction
    frames: Iterator[NDArray[np.uint8]]
    position: Callable[[], float]
    why_pyav: str = ""
    first_frame: int = 0
    note: Callable[[], str] = str


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
    source: Source | Location,
    geometry: Geometry,
    *,
    reader: Reader = "auto",
    first_frames: Sequence[int] | None = None,
    threads: int = 0,
    alive: Callable[[], None] = _nothing,
) -> Iterator[ClipStream]:
    """Yields the clips of one source; memory stays flat however long they are.

    A clip is given only once its first frame has been decoded. The frames of an array and of a
    series of pictures carry no times: all are given, and `geometry.fps` (else 25) only says how
    fast they play.

    Args:
        source: what `find_sources` found, or where a video, an animation, a still picture is, a
            folder with one series of numbered pictures, or a .npy array of uint8 (T, H, W, 3) or
            (N, T, H, W, 3).
        geometry: what the frames are brought to.
        reader: of videos. "auto" is PyAV, which is the faster from first to last frame; "decord"
            reads what it reads right, PyAV the rest.
        first_frames: for each clip of the source (one where it is one clip) the number of the first
            frame wanted, counted as frames are given, after resampling; SKIP leaves the clip out.
            None gives all from frame 0. Those before it are decoded and discarded: seeking is
            inexact in many files.
        threads: of PyAV's decoder, 0 to choose by the size of the pictures, alike on every machine.
        alive: called every few frames, given or discarded, so that a caller that waits for a far
            frame knows that work goes on.

    Raises:
        ReadError: if not one frame can be read; the message is a short reason without the path.
        UsageError: if the reader does not exist here.
        ValueError: if `first_frames` has not one number a clip, in [0, ...) or SKIP.
    """
    check_reader(reader)
    path, series = _locate(source)
    if path.suffix.lower() == ARRAY_SUFFIX and series is None:
        yield from _array_clips(path, geometry, first_frames)
        return
    (first,) = _checked(first_frames, num_clips=1)
    if first == SKIP:
        return
    if series is not None:
        media = SeriesMedia(series, first=first)
        frames = _resized(_begun(media.frames()), Resizer(geometry))
        fps = geometry.fps or media.fps
        yield ClipStream(None, fps, frames, media.position, first_frame=first, note=media.note)
    else:
        yield _video_clip(path, geometry, first, reader=reader, threads=threads, alive=alive)


def count_clips(source: Source | Location) -> int | None:
    """Returns how many clips an array (N, T, H, W, 3) holds; None where a source is one clip.

    Raises:
        ReadError: if it is a .npy file without such an array; other files are not looked at.
    """
    path, series = _locate(source)
    if path.suffix.lower() != ARRAY_SUFFIX or series is not None:
        return None
    return num_clips(open_array(path))


def _locate(source: Source | Location) -> tuple[Location, Series | None]:
    if isinstance(source, Source):
        return source.path, source.series
    return source, folder_series(source) if source.is_dir() else None


def _checked(first_frames: Sequence[int] | None, *, num_clips: int) -> Sequence[int]:
    if first_frames is None:
        return [0] * num_clips
    if len(first_frames) != num_clips or min(first_frames) < SKIP:
        raise ValueError(
            f"got first frames {first_frames}, expected {num_clips} numbers of frames or SKIP"
        )
    return first_frames


def _array_clips(
    path: Location, geometry: Geometry, first_frames: Sequence[int] | None
) -> Iterator[ClipStream]:
    array = open_array(path)
    fps = geometry.fps or DEFAULT_FPS
    count = num_clips(array)
    for number, first in enumerate(_checked(first_frames, num_clips=count or 1)):
        if first == SKIP:
            continue
        media = ArrayClip(array, number, first=first)
        index = None if count is None else number
        frames = _resized(media.frames(), Resizer(geometry))
        yield ClipStream(index, fps, frames, media.position, first_frame=first)


def _video_clip(
    path: Location,
    geometry: Geometry,
    first: int,
    *,
    reader: Reader,
    threads: int,
    alive: Callable[[], None],
) -> ClipStream:
    """Opens a video, an animation or a still picture; its first frame is decoded here."""
    with contextlib.ExitStack() as stack:
        media: Media | None = None
        why_pyav = ""
        if reader == "decord":
            try:
                media = DecordMedia(path, geometry)
            except NotForDecordError as error:
                why_pyav = str(error)
        if media is None:
            media = stack.enter_context(open_media(path, threads=threads))
        # From here on the frames own the open file: they close it when read to the end or dropped.
        decoded = _begun(_owning(media.frames(), stack.pop_all(), alive))
    if geometry.fps is not None:
        decoded = resample(decoded, native_fps=media.fps, fps=geometry.fps)
    resize = Resizer(
        geometry,
        source_size=media.source_size if isinstance(media, DecordMedia) else None,
        sample_aspect_ratio=media.sample_aspect_ratio,
    )
    return ClipStream(
        index=None,
        fps=geometry.fps or media.fps,
        frames=_resized(itertools.islice(decoded, first, None), resize),
        position=media.position,
        why_pyav=why_pyav,
        first_frame=first,
        note=media.note if isinstance(media, PictureMedia) else str,
    )


def _begun(items: Iterator[_T]) -> Iterator[_T]:
    """Makes the first of `items` now, so that its errors come now."""
    first = list(itertools.islice(items, 1))
    return itertools.chain(first, items)


def _owning(
    frames: Iterator[_T], file: contextlib.ExitStack, alive: Callable[[], None]
) -> Iterator[_T]:
    """Yields frames, reports every few of them that work goes on, and closes their file."""
    with file:
        for number, frame in enumerate(frames):
            if number % _ALIVE_FRAMES == 0:
                alive()
            yield frame


def _resized(frames: Iterable[av.VideoFrame], resize: Resizer) -> Iterator[NDArray[np.uint8]]:
    last: tuple[av.VideoFrame, NDArray[np.uint8]] | None = None
    for frame in frames:
        if last is None or last[0] is not frame:
            last = frame, resize(frame)
        yield last[1]
