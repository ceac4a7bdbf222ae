"""Clips of a few frames, drawn at random places from any number of videos of any length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from ldf_video.errors import ReadError
from ldf_video.readers.clips import ClipReader
from ldf_video.video.geometry import Geometry
from ldf_video.video.sources import Source

Clips = npt.NDArray[np.uint8]
Frames = Iterator[npt.NDArray[np.uint8]]

CLIP_FRAMES = 5
"""Adjacent frames that are judged together."""


@dataclass(frozen=True)
class Drawn:
    """Clips (N, CLIP_FRAMES, H, W, 3), no two of a frame, in the order of sources and of time."""

    clips: Clips
    places: npt.NDArray[np.intp]  # number of the source that each clip is from, (N,)
    num_there: int  # clips that there were to draw from
    unread: tuple[str, ...]  # a line for each source that was not read whole


def draw_clips(
    sources: Sequence[Source],
    geometry: Geometry,
    *,
    count: int,
    seed: int,
    skip: int = 0,
    most: int | None = None,
    on_source: Callable[[int], None] = lambda count: None,
) -> Drawn:
    """Draw clips, each with equal probability, in one pass; only drawn clips are held.

    Each video is cut into clips that share no frame, the first at one of its first five frames, by
    chance. Of these, `count` are kept by reservoir sampling (Vitter 1985, algorithm R).

    Args:
        sources: to draw from.
        geometry: what frames are brought to.
        count: clips to draw; fewer come where there are fewer.
        seed: of the places.
        skip: frames at the beginning of each video that are left out.
        most: how many clips are looked at; what comes behind them is not read.
        on_source: called with the number of sources done.

    Raises:
        ReadError: there is not one clip of five frames.
    """
    rng = np.random.default_rng([seed, 5])
    kept: list[tuple[int, int, Clips]] = []
    seen, unread = 0, list[str]()
    with ClipReader(geometry) as reader:
        for number, source in enumerate(sources):
            try:
                windows = _windows(reader, source, rng, skip=skip)
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
        after = f" after the first {skip}" if skip else ""
        reason = unread[0] if unread else f"no {CLIP_FRAMES} adjacent frames{after}"
        raise ReadError(f"{sources[0].root}: no clip of {CLIP_FRAMES} frames: {reason}")
    kept.sort(key=lambda item: item[0])
    places = np.array([number for _, number, _ in kept])
    return Drawn(np.stack([clip for *_, clip in kept]), places, seen, tuple(unread))


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


def all_clips(sources: Sequence[Source], geometry: Geometry) -> Iterator[Clips]:
    """Every five adjacent frames (5, H, W, 3) there are, overlapping ones too.

    Sources that cannot be read are left out: nothing was trained on them either.
    """
    with ClipReader(geometry) as reader:
        for source in sources:
            try:
                for stream in reader.open_clips(source):
                    last: deque[npt.NDArray[np.uint8]] = deque(maxlen=CLIP_FRAMES)
                    for frame in stream.frames:
                        last.append(frame)
                        if len(last) == CLIP_FRAMES:
                            yield np.stack(last)
            except ReadError:
                continue


def _windows(
    reader: ClipReader, source: Source, rng: np.random.Generator, *, skip: int
) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Runs of CLIP_FRAMES adjacent frames that share none, from a random one of the first on."""
    for stream in reader.open_clips(source):
        frames = islice(stream.frames, skip, None)
        head = list(islice(frames, 2 * CLIP_FRAMES - 1))
        if len(head) < CLIP_FRAMES:
            continue
        rest = chain(head[int(rng.integers(len(head) - CLIP_FRAMES + 1)) :], frames)
        while len(window := list(islice(rest, CLIP_FRAMES))) == CLIP_FRAMES:
            yield window
