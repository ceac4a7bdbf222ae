"""Drift: long videos cut into segments, each measured by itself against the same real clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ldf_video.errors import LdfError, ReadError, UsageError, counted
from ldf_video.evaluation.change import Changes, count_changes, some_clips, still
from ldf_video.evaluation.draw import Clips, evenly
from ldf_video.evaluation.figures import Figures, compared, number_of
from ldf_video.evaluation.judge import Judge
from ldf_video.evaluation.reference import Reference, Views
from ldf_video.evaluation.tracks import Moves
from ldf_video.readers.clips import ClipReader
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry

NUM_VIDEOS, SEGMENT_FRAMES, NUM_CLIPS = 8, 1000, 400
"""Long videos, frames of a segment and clips of one, where nobody says how many."""
FACTOR = 1.2
"""How many times the first segment's figure another one's may be."""
HELD_TO = {
    "frame": "frame",
    "video": "video",
    "motion": "motion",
    "moving %": "change.moving_percent",
}
"""Figures that are held to it, by heading: distances upwards, what moves both ways."""
PLAIN_LEVELS = 4
"""Spread of a frame's levels, in each colour, under which it is of one colour."""


@dataclass(frozen=True)
class Plan:
    """Where long videos are cut: equal segments, and in each of them clips, evenly spread."""

    skip: int  # frames before the first segment
    segments: int
    frames: int  # of a segment
    num_videos: int
    num_frames: int  # of a clip
    clips: int  # of a video and segment

    @classmethod
    def of(
        cls,
        segments: int,
        *,
        length: int | None,
        skip: int,
        num_videos: int | None,
        num_frames: int,
        num_clips: int | None,
    ) -> Plan:
        """From what was asked for: segments of SEGMENT_FRAMES where no length was.

        Raises:
            UsageError: segments are too short for a clip, or hold no clip of each video.
        """
        videos = NUM_VIDEOS if num_videos is None else num_videos
        whole = skip + segments * SEGMENT_FRAMES if length is None else length
        frames = (whole - skip) // segments
        if frames < num_frames:
            raise UsageError(
                f"--length {whole}: {counted(segments, 'segment')} of {max(0, frames)} frames "
                f"behind the first {skip}, expected {num_frames} or more a segment; give --length "
                f"{skip + segments * num_frames} or more, or fewer --segments"
            )
        asked = NUM_CLIPS if num_clips is None else num_clips
        return cls(
            skip, segments, frames, videos, num_frames, min(asked // videos, frames // num_frames)
        )

    @property
    def num_clips(self) -> int:
        """Of all videos, in each segment."""
        return self.num_videos * self.clips

    @property
    def length(self) -> int:
        """Frames of each video that are read."""
        return self.skip + self.segments * self.frames

    def bounds(self, segment: int) -> tuple[int, int]:
        """A segment's first and last frame."""
        first = self.skip + segment * self.frames
        return first, first + self.frames - 1

    def wanted(self, segment: int) -> npt.NDArray[np.intp]:
        """Numbers of the frames of a segment's clips, clip after clip, in their order."""
        places = evenly(self.frames - self.num_frames + 1, self.clips)
        return (self.bounds(segment)[0] + places[:, None] + np.arange(self.num_frames)).ravel()

    def cut(self, blocks: Iterable[Clips]) -> Iterator[Clips]:
        """The clips of one segment after another, of frames that come in order; none else is held.

        Args:
            blocks: uint8 (V, n, H, W, 3), of V videos any number of frames at a time.

        Yields:
            Clips (V, clips, T, H, W, 3) of each segment, as far as the frames reach.
        """
        segment, number, kept = 0, 0, list[Clips]()
        wanted = self.wanted(segment)
        for block in blocks:
            stop = number + block.shape[1]
            while True:
                inside = wanted[(wanted >= number) & (wanted < stop)] - number
                if len(inside):
                    kept.append(block[:, inside])
                if stop <= wanted[-1]:
                    break
                frames = np.concatenate(kept, axis=1)
                yield frames.reshape(len(block), self.clips, self.num_frames, *frames.shape[2:])
                segment, kept = segment + 1, []
                if segment == self.segments:
                    return
                wanted = self.wanted(segment)
            number = stop


@dataclass(frozen=True)
class Stopped:
    """A video of which no clip moves in some neighbouring segments, or of which all are plain."""

    video: int
    what: str  # "stands still" or "is of one colour"
    first: int  # frame
    last: int


@dataclass(frozen=True)
class Drift:
    """How long videos go: segments, how long they stay near the first, and which have stopped."""

    num_videos: int
    num_clips: int  # of all videos, in each segment
    segments: tuple[tuple[int, int], ...]  # first and last frame
    within: Mapping[str, int]
    """By figure, the last frame before the first segment that is beyond 1.2 times the first one."""
    beyond: Mapping[str, int]  # how many segments are
    stopped: tuple[Stopped, ...]

    @staticmethod
    def shown(first: int, last: int) -> str:
        """A segment for people."""
        return f"{first:,} to {last:,}"

    def text(self, name: str) -> str:
        """All of it for people, a line each."""
        (first, last), total = self.segments[0], len(self.segments)
        lines = [
            f"{name}: {counted(self.num_videos, 'video')}, {self.num_clips:,} clips a segment; "
            f"within {FACTOR} of frames {first:,} to {last:,}:"
        ]
        for figure_name, until in self.within.items():
            beyond = self.beyond[figure_name]
            what = f"; {beyond:,} of {counted(total, 'segment')} beyond" if beyond else ", the end"
            lines.append(f"- {figure_name}: to frame {until:,}{what}")
        lines += [
            f"- video {found.video} {found.what} in frames {found.first:,} to {found.last:,}"
            for found in self.stopped
        ]
        return "\n".join(
            [*lines, *([] if self.stopped else ["- no video stands still or is plain"])]
        )


class Rollouts:
    """What is known of the segments of long videos; of clips points are held, not frames.

    Those of a segment are let go once it has its figures, with the last video.
    """

    def __init__(self, plan: Plan, reference: Reference, judge: Judge) -> None:
        """Takes where to cut, and what to compare with."""
        self.plan, self.reference, self.judge = plan, reference, judge
        self._views: list[list[Views]] = [[] for _ in range(plan.segments)]
        self._counts: list[list[tuple[Moves, Changes]]] = [[] for _ in range(plan.segments)]
        self._found: list[Figures] = []
        shape = (plan.num_videos, plan.segments)
        self._still, self._plain = np.zeros(shape, bool), np.zeros(shape, bool)

    def add(self, segment: int, videos: range, clips: Clips) -> None:
        """Judge clips (V, clips, T, H, W, 3) of some videos in a segment; both come in order."""
        flat = clips.reshape(-1, *clips.shape[2:])
        changes = count_changes(flat)
        self._views[segment].append(self.reference.views_of(flat, self.judge))
        self._counts[segment].append((Moves.of(flat), changes))
        chosen = slice(videos.start, videos.stop)
        self._still[chosen, segment] = still(changes).reshape(clips.shape[:2]).all(1)
        plain = np.concatenate([_plain(flat[some]) for some in some_clips(flat)])
        self._plain[chosen, segment] = plain.reshape(clips.shape[:2]).all(1)
        if videos.stop == self.plan.num_videos:
            self._found.append(self._figures(segment))
            self._views[segment], self._counts[segment] = [], []

    def _figures(self, segment: int) -> Figures:
        """Of all videos in one segment."""
        parts, counts = self._views[segment], self._counts[segment]
        views = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        moves = Moves.joined([moves for moves, _ in counts])
        return compared(self.reference, views, moves, np.concatenate([c for _, c in counts]))

    def all_figures(self) -> list[Figures]:
        """Of each segment, once all videos are added."""
        return self._found

    def drift(self, rows: list[Figures]) -> Drift:
        """Sum up the figures of all segments."""
        bounds = tuple(self.plan.bounds(segment) for segment in range(self.plan.segments))
        within, beyond = dict[str, int](), dict[str, int]()
        for name, place in HELD_TO.items():
            values = np.array([number_of(row, place) for row in rows])
            if np.isnan(values).all():
                continue
            far = values > FACTOR * values[0]
            if name == "moving %":
                far |= values < values[0] / FACTOR
            beyond[name] = int(far.sum())
            within[name] = bounds[int(far.argmax()) - 1 if far.any() else -1][1]
        stopped = [*self._runs(self._plain, "is of one colour")]
        stopped += self._runs(self._still & ~self._plain, "stands still")
        return Drift(
            self.plan.num_videos,
            self.plan.num_clips,
            bounds,
            within,
            beyond,
            tuple(sorted(stopped, key=lambda found: (found.video, found.first))),
        )

    def _runs(self, those: npt.NDArray[np.bool_], what: str) -> Iterator[Stopped]:
        """Runs of neighbouring segments of each video, of a mask (videos, segments)."""
        for video, row in enumerate(those):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                first, last = self.plan.bounds(int(start))[0], self.plan.bounds(int(stop) - 1)[1]
                yield Stopped(video, what, first, last)


def _plain(clips: Clips) -> npt.NDArray[np.bool_]:
    """Which of clips (N, T, H, W, 3) are of one colour in every frame, (N,)."""
    levels = clips.reshape(*clips.shape[:2], -1, 3)
    plain: npt.NDArray[np.bool_] = (levels.std(-2).max(-1) < PLAIN_LEVELS).all(1)
    return plain


def read_long(sources: list[Source], geometry: Geometry, plan: Plan) -> Iterator[Iterator[Clips]]:
    """The first videos there are, each as its frames, uint8 (1, 1, H, W, 3) at a time.

    Behind the last of them nothing is read.

    Raises:
        LdfError: there are fewer, or one cannot be read; this comes out of its frames, too.
    """
    count = 0
    with ClipReader(geometry) as reader:
        for source in sources:
            try:
                for stream in reader.open_clips(source):
                    yield _frames_of(source, stream.frames)
                    count += 1
                    if count == plan.num_videos:
                        return
            except ReadError as error:
                raise _named(source, error) from error
    if count < plan.num_videos:
        raise LdfError(
            f"{sources[0].asked}: {counted(count, 'video')}, expected {plan.num_videos}; give "
            f"--num-videos {count}"
        )


def _frames_of(source: Source, frames: Iterator[npt.NDArray[np.uint8]]) -> Iterator[Clips]:
    try:
        for frame in frames:
            yield frame[None, None]
    except ReadError as error:
        raise _named(source, error) from error


def _named(source: Source, error: ReadError) -> ReadError:
    return ReadError(f"{source.root}: {source.name}: {error}")
