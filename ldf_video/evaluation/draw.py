"""Clips of a few frames, drawn at random places from any number of videos of any length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from ldf_video.clips.read import ClipStream
from ldf_video.errors import ReadError, counted
from ldf_video.readers.clips import ClipReader
from ldf_video.sources.source import Source
from ldf_video.video.cuts import shots
from ldf_video.video.geometry import Geometry

Clips = npt.NDArray[np.uint8]
Frames = Iterator[npt.NDArray[np.uint8]]

CLIP_FRAMES = 5
"""Adjacent frames that are judged together, where nobody says how many."""


@dataclass
class Lengths:
    """How long the videos are that were looked at."""

    there: int = 0
    enough: int = 0  # that hold a clip
    longest: int = 0  # frames, of those that do not; no more is known of the others
    cuts: int = 0  # that were found in them

    def note(self, num_frames: int, *, whole: int) -> None:
        """Count a video of so many frames, of which a clip needs `whole`."""
        self.there += 1
        self.enough += num_frames >= whole
        self.longest = max(self.longest, num_frames)


@dataclass(frozen=True)
class Drawn:
    """Clips (N, T, H, W, 3), no two of a frame, in the order of sources and of time."""

    clips: Clips
    places: npt.NDArray[np.intp]  # number of the source that each clip is from, (N,)
    num_there: int  # clips that there were to draw from
    lengths: Lengths
    unread: tuple[str, ...]  # a line for each source that was not read whole


def draw_clips(
    sources: Sequence[Source],
    geometry: Geometry,
    *,
    count: int,
    seed: int,
    num_frames: int = CLIP_FRAMES,
    skip: int = 0,
    most: int | None = None,
    cuts: bool = False,
    on_source: Callable[[int], None] = lambda count: None,
) -> Drawn:
    """Draw clips, each with equal probability, in one pass; only drawn clips are held.

    Each video is cut into clips that share no frame, the first at one of as many first frames as a
    clip has, by chance; with `cuts` each shot of it is. Of these, `count` are kept by reservoir
    sampling (Vitter 1985, algorithm R).

    Args:
        sources: to draw from.
        geometry: what frames are brought to.
        count: clips to draw; fewer come where there are fewer.
        seed: of the places.
        num_frames: of a clip.
        skip: frames at the beginning of each video that are left out.
        most: how many clips are looked at; what comes behind them is not read.
        cuts: whether cuts are looked for, so that no clip has frames of two shots.
        on_source: called with the number of sources done.

    Raises:
        ReadError: there is not one clip.
    """
    rng = np.random.default_rng([seed, 5])
    kept: list[tuple[int, int, Clips]] = []
    seen, unread, lengths = 0, list[str](), Lengths()
    with ClipReader(geometry) as reader:
        for number, source in enumerate(sources):
            try:
                streams = reader.open_clips(source)
                windows = _windows(
                    streams, rng, lengths, num_frames=num_frames, skip=skip, cuts=cuts
                )
                for window in islice(windows, None if most is None else most - seen):
                    place = seen if seen < count else int(rng.integers(seen + 1))
                    if seen < count:
                        kept.append((seen, number, np.stack(window)))
                    elif place < count:
                        kept[place] = (seen, number, np.stack(window))
                    seen += 1
            except ReadError as error:
                unread.append(f"{source.name}: {error}")
            on_source(number + 1)
            if seen == most:
                break
    if not kept:
        reason = unread[0] if unread else too_short(lengths, num_frames=num_frames, skip=skip)
        raise ReadError(f"{sources[0].asked}: no clip of {num_frames} frames: {reason}")
    kept.sort(key=lambda item: item[0])
    places = np.array([number for _, number, _ in kept])
    return Drawn(np.stack([clip for *_, clip in kept]), places, seen, lengths, tuple(unread))


def too_short(lengths: Lengths, *, num_frames: int, skip: int = 0) -> str:
    """How many videos hold a clip; where none does, what to type."""
    after = f" behind the first {skip:,}" if skip else ""
    said = f"{lengths.enough:,} of {counted(lengths.there, 'video')} have {num_frames:,}{after}"
    said += f" without a cut ({counted(lengths.cuts, 'cut')})" if lengths.cuts else ""
    if lengths.enough:
        return said
    said += f", the longest has {lengths.longest:,} in all"
    if skip and lengths.longest >= num_frames:
        return f"{said}; give --skip {lengths.longest - num_frames} or less"
    if lengths.longest >= skip + 2:
        across = ", or --cuts off" if lengths.cuts else ""
        return f"{said}; give --frames {lengths.longest - skip} or less{across}"
    return said


def evenly(total: int, count: int) -> npt.NDArray[np.intp]:
    """`count` of the numbers below `total`, evenly spread, the first and the last among them."""
    return np.linspace(0, total - 1, count).round().astype(np.intp)


def split_in_two(drawn: Drawn, *, seed: int) -> tuple[Clips, Clips]:
    """Two equal halves, each in its order; an odd clip is left out.

    Neighbours of one recording resemble each other, so sources go to one side or the other by
    chance, whole but for the one in the middle, which is cut in time. One source alone gives its
    first half and its second.
    """
    half = len(drawn.clips) // 2
    ranks = np.random.default_rng([seed, 2]).permutation(int(drawn.places.max()) + 1)
    order = np.argsort(ranks[drawn.places], kind="stable")
    one, two = np.sort(order[:half]), np.sort(order[half : 2 * half])
    return drawn.clips[one], drawn.clips[two]


def all_clips(
    sources: Sequence[Source], geometry: Geometry, *, num_frames: int = CLIP_FRAMES
) -> Iterator[Clips]:
    """Every `num_frames` adjacent frames (T, H, W, 3) of a shot there are, overlapping ones too.

    Sources that cannot be read are left out: nothing was trained on them either.
    """
    with ClipReader(geometry) as reader:
        for source in sources:
            try:
                clips = reader.open_clips(source)
                for shot in chain.from_iterable(shots(clip.frames, clip.fps) for clip in clips):
                    last: deque[npt.NDArray[np.uint8]] = deque(maxlen=num_frames)
                    for frame in shot:
                        last.append(frame)
                        if len(last) == num_frames:
                            yield np.stack(last)
            except ReadError:
                continue


def _windows(
    streams: Iterable[ClipStream],
    rng: np.random.Generator,
    lengths: Lengths,
    *,
    num_frames: int,
    skip: int,
    cuts: bool,
) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Runs of adjacent frames that share none, from a random one of the first of each shot on."""
    for stream in streams:
        frames = iter(stream.frames)
        skipped = sum(1 for _ in islice(frames, skip))
        longest = 0
        for number, shot in enumerate(shots(frames, stream.fps) if cuts else [frames]):
            lengths.cuts += number > 0
            head = list(islice(shot, 2 * num_frames - 1))
            if len(head) >= num_frames > longest:
                lengths.note(skipped + len(head), whole=skip + num_frames)
            longest = max(longest, len(head))
            if len(head) < num_frames:
                continue
            rest = chain(head[int(rng.integers(len(head) - num_frames + 1)) :], shot)
            while len(window := list(islice(rest, num_frames))) == num_frames:
                yield window
        if longest < num_frames:
            lengths.note(skipped + longest, whole=skip + num_frames)
