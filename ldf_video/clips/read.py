"""Clips as streams of frames, ready for a model: cropped, scaled and resampled in time.

`formats` says what a file is, and opens it. The way of a video: `decode.open_media` opens its file,
`containers` chooses the stream and finds its rate, `decode.FilmMedia` decodes the packets and
counts what is lost, `timing` says when frames show and changes their rate, `presentation` makes
them RGB of the right part and size.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ldf_video.clips.actions import OFF
from ldf_video.clips.formats import format_of, open_source
from ldf_video.clips.told import CountedFrames, read_told
from ldf_video.errors import ReadError, UsageError
from ldf_video.sources.folder import as_source
from ldf_video.video.decode import FilmMedia
from ldf_video.video.decord_reader import DecordMedia, NotForDecordError
from ldf_video.video.presentation import Resizer, upright_size
from ldf_video.video.seeking import find_entry
from ldf_video.video.timing import resample, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from fractions import Fraction

    import av
    import numpy as np
    from numpy.typing import NDArray

    from ldf_video.arrays.conditions import Column
    from ldf_video.files.locations import Location
    from ldf_video.options.reading import Reader
    from ldf_video.sources.ranges import Range
    from ldf_video.sources.source import Source
    from ldf_video.video.geometry import Geometry
    from ldf_video.video.media import Media

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
            after the last readable frame where the source is damaged, another ReadError where
            one clip of several is.
        position: returns how much of the source, other clips included, has been read, in [0, 1]; it
            never goes back, and is for showing progress only.
        why_pyav: why a video was not read by decord as asked, else empty.
        first_frame: number of the first frame that `frames` gives, as asked. Where the clip has no
            such frame, `frames` gives none and ends.
        note: returns what a user must know of the frames that were given, empty if nothing.
        size: rows and columns of the source's own frames, upright; None where there is no frame.
        name: see `Media.name`.
        columns: what is known of its frames beside their pixels.
        told: returns what is known of the frame that was given last, a value for each column, None
            where it is not known.
    """

    index: int | None
    fps: Fraction
    frames: Iterator[NDArray[np.uint8]]
    position: Callable[[], float]
    why_pyav: str = ""
    first_frame: int = 0
    note: Callable[[], str] = str
    size: tuple[int, int] | None = None
    name: str = ""
    columns: tuple[Column, ...] = ()
    told: Callable[[], list[float | None]] = list


def check_reader(reader: str) -> None:
    """Checks that a reader is installed.

    Raises:
        UsageError: if not.
    """
    if reader == "decord" and importlib.util.find_spec("decord") is None:
        raise UsageError(
            "--reader decord: the package decord is not installed (it exists for Linux on x86-64 "
            "alone); use --reader pyav"
        )


def open_clips(
    source: Source | Location,
    geometry: Geometry,
    *,
    reader: Reader = "auto",
    first_frames: Sequence[int] | None = None,
    threads: int = 0,
    alive: Callable[[], None] = lambda: None,
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
        ReadError: if not one frame can be read; the message is a short reason without the path. Of
            a source of several clips it comes out of `frames` of the one that is bad.
        UsageError: if the reader does not exist here.
        ValueError: if `first_frames` has not one number a clip, in [0, ...) or SKIP.
    """
    check_reader(reader)
    source = as_source(source)
    if first_frames is not None and set(first_frames) == {SKIP}:
        return
    part = source.part
    if part is not None:
        geometry = replace(geometry, fps=part.fps or geometry.fps)
        part = part if part.suffix else None
    told = read_told(source, alive=alive)
    with contextlib.ExitStack() as stack:
        clips, why_pyav = _by_decord(source, geometry) if reader == "decord" else ([], "")
        clips = clips or stack.enter_context(open_source(source, threads=threads))
        firsts = [0] * len(clips) if first_frames is None else first_frames
        if len(firsts) != len(clips) or min(firsts) < SKIP:
            raise ValueError(
                f"got first frames {firsts}, expected {len(clips)} numbers of frames or SKIP"
            )
        # From here on the frames own the open file: those that are read last close it.
        file = _Shared(stack.pop_all(), len(firsts) - list(firsts).count(SKIP))
    for media, first in zip(clips, firsts, strict=True):
        if first == SKIP:
            continue
        counted = told.of_clip(media, len(clips))
        if part is not None:
            head, decoded = _in_range(
                source, part, media, fps=geometry.fps, file=file, alive=alive, counted=counted
            )
            decoded = itertools.islice(decoded, first, None)
        elif media.has_times:
            head, decoded = _begun(counted.frames(_owning(media.frames(), file, alive)), media)
            if geometry.fps is not None:
                decoded = resample(decoded, native_fps=media.fps, fps=geometry.fps)
            decoded = itertools.islice(decoded, first, None)
        else:
            start = first if media.knows_place else 0
            frames = counted.frames(_owning(media.frames(start), file, alive), start)
            head, decoded = _begun(frames, media)
            decoded = itertools.islice(decoded, first - start, None)
        size, head = None if head is None else media.source_size or upright_size(head), None
        yield ClipStream(
            index=media.index,
            fps=geometry.fps or media.fps,
            frames=_resized(
                counted.given(decoded),
                Resizer(geometry, media.source_size, media.sample_aspect_ratio),
            ),
            position=media.position,
            why_pyav=why_pyav,
            first_frame=first,
            note=partial(_note, source, media, counted),
            size=size,
            name=media.name,
            columns=counted.columns,
            told=counted.told,
        )


def _in_range(
    source: Source,
    part: Range,
    media: Media,
    *,
    fps: Fraction | None,
    file: _Shared,
    alive: Callable[[], None],
    counted: CountedFrames,
) -> tuple[av.VideoFrame | None, Iterator[av.VideoFrame]]:
    """The frames of a range of an open file, at a rate, of which the first is made."""
    if media.index is not None:
        raise ReadError("it holds several clips: leave start and end of its row empty")
    if not media.has_times:
        rate = fps or media.fps
        first = part.numbers(rate)[0]
        frames = counted.frames(_owning(media.frames(first), file, alive), first)
        return _begun(part.of_untimed(frames, fps=rate), media)
    frames = counted.frames(_owning(media.frames(), file, alive))
    pairs = timed(frames, native_fps=media.fps)
    # Frames with a row each are counted from the first on.
    if isinstance(media, FilmMedia) and not counted.columns:
        entry = find_entry(source.path, part.start, alive=alive)
        if entry is not None:
            media.seek(entry.seek_to)
            pairs = entry.timed(frames, time_base=media.time_base)
    return _begun(part.of_timed(pairs, native_fps=media.fps, fps=fps), media)


def _by_decord(source: Source, geometry: Geometry) -> tuple[Sequence[Media], str]:
    """Opens a film with decord, if that is right; else says why not, "" where nobody expects it."""
    if not format_of(source).is_film:
        return [], ""
    if source.part is not None and source.part.suffix:
        return [], "ranges of files"
    if source.conditions:
        return [], "clips with conditions"
    try:
        return [DecordMedia(source.path, geometry)], ""
    except NotForDecordError as error:
        return [], str(error)


def _note(source: Source, media: Media, counted: CountedFrames) -> str:
    """What a user must know of a clip, also of what was asked for where there is none."""
    notes, layout = [media.note()], source.layout
    found = format_of(source) if layout.camera or layout.actions else None
    if found is not None and layout.camera and not found.has_cameras:
        notes.append(f"--camera {layout.camera}: {found.name} has no cameras")
    if found is not None and layout.actions not in ("", OFF) and not found.has_actions:
        notes.append(f"--actions {layout.actions}: {found.name} holds nothing beside its frames")
    notes.append(counted.note())
    return "; ".join(filter(None, notes))


def _begun(items: Iterator[_T], media: Media) -> tuple[_T | None, Iterator[_T]]:
    """Makes the first of `items` now, so that its errors come now; None if there is none.

    Those of one clip of several come when its frames are asked for: the others are good.
    """
    try:
        first = list(itertools.islice(items, 1))
    except Exception as error:
        if media.index is None:
            raise
        return None, _failing(error)
    return next(iter(first), None), itertools.chain(first, items)


def _failing(error: Exception) -> Iterator[Any]:
    raise error
    yield


class _Shared:
    """An open file, closed when so many clips have been read to their end or dropped on the way."""

    def __init__(self, file: contextlib.ExitStack, num_clips: int) -> None:
        self._file, self._num_left = file, num_clips

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._num_left -= 1
        if not self._num_left:
            self._file.close()


def _owning(frames: Iterator[_T], file: _Shared, alive: Callable[[], None]) -> Iterator[_T]:
    """Yields frames, reports every few of them that work goes on, and leaves their file."""
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
