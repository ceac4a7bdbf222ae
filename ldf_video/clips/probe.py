"""Facts about a source: how many clips, of which size and rate, and whether it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ldf_video.arrays.frame_array import ArrayClips
from ldf_video.clips.formats import format_of, open_source
from ldf_video.clips.told import read_told
from ldf_video.errors import TruncatedError, counted
from ldf_video.sources.folder import as_source
from ldf_video.video.presentation import upright_size
from ldf_video.video.timing import shown_seconds, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction

    import av

    from ldf_video.files.locations import Location
    from ldf_video.sources.source import Source
    from ldf_video.video.media import Media


@dataclass(frozen=True)
class VideoInfo:
    """Facts about one file.

    Attributes:
        container: see `Media.container_name`.
        codec: see `Media.codec_name`.
        width: columns of the first frame as stored, before rotation.
        height: rows of the first frame as stored, before rotation.
        fps: nominal frames a second (25 for arrays and pictures, which carry no times).
        num_frames: frames that decode, over all clips of an array.
        duration_seconds: from the first frame's start to the last one's end.
        rotation: counter-clockwise degrees that set the frames upright.
        truncated: whether the file is damaged, so that frames are missing or concealed.
        held: of a file that holds several arrays, which of them are clips, alike ones in a line.
        told: what tells of frames beside their pixels, in it or in a file beside it.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: Fraction
    num_frames: int
    duration_seconds: float
    rotation: int = 0
    truncated: bool = False
    held: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def count_clips(source: Source | Location) -> int | None:
    """Returns how many clips an array (N, T, H, W, 3) holds; None where a source is one clip.

    Raises:
        ReadError: if it is of a format that can hold several clips, and cannot be opened.
    """
    source = as_source(source)
    if not format_of(source).is_many:
        return None
    with open_source(source) as clips:
        return None if clips[0].index is None else len(clips)


def probe(source: Source | Location, *, alive: Callable[[], None] = lambda: None) -> VideoInfo:
    """Decodes a source once and says what it is; headers are not believed.

    Args:
        source: a file, or a directory with one series of numbered pictures.
        alive: called after every frame.

    Raises:
        ReadError: if not one frame can be read.
    """
    source = as_source(source)
    with open_source(source) as clips:
        media = clips[0]
        names = media.container_name, media.codec_name
        if isinstance(clips, ArrayClips):
            height, width = clips.arrays[0].frame_size
            count = clips.num_frames
            seconds = float(count / media.fps)
            held = clips.describe()
            told = _told(source, clips)
            return VideoInfo(*names, width, height, media.fps, count, seconds, held=held, told=told)
        measured = [_measured(clip, alive) for clip in clips]
        first = measured[0].first
        return VideoInfo(
            *names,
            first.width,
            first.height,
            media.fps,
            sum(clip.num_frames for clip in measured),
            float(sum(clip.seconds for clip in measured)),
            first.rotation % 360,
            any(clip.truncated for clip in measured),
            told=_told(source, clips),
        )


def _told(source: Source, clips: Sequence[Media]) -> tuple[str, ...]:
    """What tells of frames: a file beside the source, else what it holds."""
    beside = read_told(source)
    if beside.name:
        if beside.known is None:
            return (f"conditions are not used, {beside.name}: {beside.problem}",)
        listed = ", ".join(map(str, beside.known.columns)) or "nothing is known"
        rows = counted(len(beside.known.values), "row")
        return (f"conditions: {beside.name}, {rows}: {listed}",)
    if isinstance(clips, ArrayClips):
        return clips.describe_known()
    return tuple(dict.fromkeys(filter(None, (one.known_said for one in clips))))


class _Measured(NamedTuple):
    """A clip that was decoded once."""

    first: av.VideoFrame
    num_frames: int
    seconds: Fraction
    truncated: bool


def _measured(media: Media, alive: Callable[[], None]) -> _Measured:
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
    return _Measured(first, num_frames, end, truncated)


def frame_size(source: Source) -> tuple[int, int]:
    """Height and width, upright, of the first frame of what `find_sources` found.

    Raises:
        ReadError: if it cannot be read.
    """
    with open_source(source) as clips:
        return upright_size(next(clips[0].frames()))


def has_times(source: Source) -> bool:
    """Whether a source says when its frames are shown: arrays and series of pictures do not."""
    return format_of(source).has_times
