"""Clips as streams of frames, ready for a model: cropped, scaled and resampled in time."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import av
import numpy as np

from ldf_video.errors import ReadError, UsageError
from ldf_video.video.decode import Media, open_media
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError, check_decord
from ldf_video.video.pictures import DEFAULT_FPS, PicturesMedia
from ldf_video.video.resize import Resizer
from ldf_video.video.sources import Source, folder_series
from ldf_video.video.timing import resample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from fractions import Fraction
    from pathlib import Path

    from numpy.typing import NDArray

    from ldf_video.video.geometry import Geometry
    from ldf_video.video.series import Series

ARRAY_SUFFIX = ".npy"
Reader = Literal["auto", "pyav", "decord"]


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
    """

    index: int | None
    fps: Fraction
    frames: Iterator[NDArray[np.uint8]]
    position: Callable[[], float]
    why_pyav: str = ""


def check_reader(reader: str) -> None:
    """Checks that a reader exists and is installed.

    Raises:
        UsageError: if not.
    """
    if reader not in ("auto", "pyav", "decord"):
        raise UsageError(f"--reader {reader}: expected auto, pyav or decord")
    if reader == "decord":
        check_decord()


def open_clips(
    source: Source | Path, geometry: Geometry, *, reader: Reader = "auto"
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

    Raises:
        ReadError: if not one frame can be read; the message is a short reason without the path.
        UsageError: if the reader does not exist here.
    """
    check_reader(reader)
    path = source.path if isinstance(source, Source) else source
    series = source.series if isinstance(source, Source) else None
    if path.is_dir() and series is None:
        series = folder_series(path)
    if series is not None:
        yield _series_clip(series, geometry)
    elif path.suffix.lower() == ARRAY_SUFFIX:
        yield from _array_clips(open_array(path), geometry)
    else:
        yield _video_clip(path, geometry, reader)


def open_array(path: Path) -> NDArray[np.uint8]:
    """Maps a .npy array of clips into memory, read-only, without loading it.

    Raises:
        ReadError: if it is no uint8 array (T, H, W, 3) or (N, T, H, W, 3) with at least one frame.
    """
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ReadError(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ReadError(f"not a .npy array: {str(error).splitlines()[0]}") from error
    expected = "expected uint8 (T, H, W, 3) or (N, T, H, W, 3)"
    if array.dtype != np.uint8 or array.ndim not in (4, 5) or array.shape[-1] != 3:
        raise ReadError(f"an array of {array.dtype} {array.shape}; {expected}")
    if array.size == 0:
        raise ReadError(f"an array of shape {array.shape} holds no frame; {expected}")
    return array


def _array_clips(array: NDArray[np.uint8], geometry: Geometry) -> Iterator[ClipStream]:
    fps = geometry.fps or DEFAULT_FPS
    clips = array[None] if array.ndim == 4 else array
    for number, clip in enumerate(clips):
        media = _ArrayClip(clip, first=number / len(clips), share=1 / len(clips))
        index = None if array.ndim == 4 else number
        yield ClipStream(index, fps, _resized(media.frames(), geometry), media.position)


class _ArrayClip:
    """A clip that is the `share` of an array from `first` on."""

    def __init__(self, clip: NDArray[np.uint8], *, first: float, share: float) -> None:
        self._clip, self._first, self._share = clip, first, share
        self._num_read = 0

    def position(self) -> float:
        return min(self._first + self._share * self._num_read / len(self._clip), 1.0)

    def frames(self) -> Iterator[av.VideoFrame]:
        for image in self._clip:
            self._num_read += 1
            yield av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


def _series_clip(series: Series, geometry: Geometry) -> ClipStream:
    media = PicturesMedia(series.folder, series.names)
    frames = _resized(media.frames(), geometry)
    first = next(frames)
    fps = geometry.fps or media.fps
    return ClipStream(None, fps, itertools.chain([first], frames), media.position)


def _video_clip(path: Path, geometry: Geometry, reader: Reader) -> ClipStream:
    with contextlib.ExitStack() as stack:
        media, why_pyav = _open_by(reader, path, geometry, stack)
        decoded = media.frames()
        if geometry.fps is not None:
            decoded = resample(decoded, native_fps=media.fps, fps=geometry.fps)
        source_size = media.source_size if isinstance(media, DecordMedia) else None
        resized = _resized(decoded, geometry, source_size=source_size)
        # From here on the frames own the open file: they close it when read to the end or dropped.
        frames = _owning(resized, stack.pop_all())
    first = next(frames)
    fps = geometry.fps or media.fps
    return ClipStream(None, fps, itertools.chain([first], frames), media.position, why_pyav)


def _open_by(
    reader: Reader, path: Path, geometry: Geometry, stack: contextlib.ExitStack
) -> tuple[Media, str]:
    why_pyav = ""
    if reader == "decord":
        try:
            return DecordMedia(path, geometry), ""
        except NotForDecordError as error:
            why_pyav = str(error)
    media = stack.enter_context(open_media(path))
    return media, "" if isinstance(media, PicturesMedia) else why_pyav


def _owning(
    frames: Iterator[NDArray[np.uint8]], resources: contextlib.ExitStack
) -> Iterator[NDArray[np.uint8]]:
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
