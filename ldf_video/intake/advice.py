"""What clips that were looked at are enough for, what is wrong with them, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ldf_video.errors import counted
from ldf_video.intake.seen import EDGE, Bars, Seen, fresh
from ldf_video.options.trainings import WINDOWS
from ldf_video.video.geometry import Geometry

FEW, SOME, MANY = 300, 2_000, 10_000
"""Different frames from which a training is worth while, a start, and comfortable."""
LOW_CONTRAST = 12.0
"""Mean spread of pixels, in levels of 255, under which hardly anything is seen."""
MANY_BLACK, MANY_STILL, MANY_REPEATS = 0.05, 0.5, 0.1
"""Shares from which black frames, still clips and repeated clips are worth a warning."""
WINDOW = WINDOWS["flow"]


@dataclass(frozen=True)
class Advice:
    """What is wrong, and what to do.

    Attributes:
        what: a sentence.
        todo: a sentence, and what to type where that helps.
        command: to type; empty where nothing is.
        clips: numbers of the clips that show it, in the order looked at.
    """

    what: str
    todo: str
    command: str = ""
    clips: tuple[int, ...] = ()


@dataclass(frozen=True)
class Totals:
    """What all clips have together.

    Attributes:
        num_clips, num_frames: that were looked at.
        about_clips, about_frames, about_seconds: that there are, estimates if not all were.
        num_different: different frames of those looked at, those of several clips once.
        about_windows: of 16 frames, of which a top model learns.
    """

    num_clips: int
    num_frames: int
    about_clips: int
    about_frames: int
    about_seconds: float
    num_different: int
    about_windows: int

    @property
    def is_whole(self) -> bool:
        """Whether every frame was looked at."""
        return self.num_frames == self.about_frames

    @property
    def about_different(self) -> int:
        """How many different ones there are, if the others are like those looked at."""
        share = self.num_different / max(self.num_frames, 1)
        return self.num_different if self.is_whole else round(share * self.about_frames)


def totals(seen: Sequence[Seen]) -> Totals:
    return Totals(
        len(seen),
        sum(clip.num_frames for clip in seen),
        round(sum(clip.weight for clip in seen)),
        round(sum(clip.weight * clip.about_frames for clip in seen)),
        sum(clip.weight * clip.about_seconds for clip in seen),
        int(fresh(seen).sum()),
        round(sum(clip.weight * _about_windows(clip) for clip in seen)),
    )


def _about_windows(clip: Seen) -> float:
    """How many windows a clip has; none crosses a cut."""
    borders = [0, *(round(second * clip.fps) for second in clip.cuts), clip.num_frames]
    shots = sum(max(0, end - start - WINDOW + 1) for start, end in pairwise(borders))
    crossing = max(0, clip.num_frames - WINDOW + 1) - shots
    # What was not read has as many cuts, in proportion.
    share = clip.about_frames / max(clip.num_frames, 1)
    return max(0, clip.about_frames - WINDOW + 1 - crossing * share)


def about(number: int, *, exact: bool) -> str:
    """`41,013`, or `about 41,000` where it is an estimate."""
    return f"{number:,}" if exact else f"about {int(float(f'{number:.2g}')):,}"


def enough_for(different: int) -> tuple[str, int]:
    """What so many different frames are enough for, and for how many minutes of a CPU to train.

    Rules of thumb of docs/training.md.
    """
    if different < FEW:
        return "too few: a model learns them by heart within minutes and makes nothing else", 10
    if different < SOME:
        return "a try: the model will mostly show these very frames again", 20
    if different < MANY:
        return "a start: videos can be recognised, some show pieces of the clips", 60
    return "comfortable: the frame model can be trained for hours", 120


def advise(seen: Sequence[Seen], geometry: Geometry) -> list[Advice]:
    """What is wrong with clips, the worst first."""
    sums = totals(seen)
    found = [_too_few(sums), _all_short(seen)]
    found += [_black(seen), _still(seen), _repeats(seen), _bars(seen, geometry), _dim(seen)]
    return [advice for advice in found if advice is not None]


def _too_few(sums: Totals) -> Advice | None:
    if sums.about_different >= FEW:
        return None
    return Advice(
        f"There are few different frames: {sums.about_different:,}.",
        f"Bring more clips of the same kind: some {SOME:,} different frames are a start, "
        f"{MANY:,} are comfortable.",
    )


def _all_short(seen: Sequence[Seen]) -> Advice | None:
    short = _numbers(seen, lambda clip: clip.about_frames < WINDOW)
    if len(short) < len(seen) or not seen:
        return None
    longest = max(clip.about_frames for clip in seen)
    return Advice(
        f"No clip has {WINDOW} frames, the window of a top model; the longest has {longest}.",
        "The window shrinks to the longest clip, and clips of one frame teach no motion. Bring "
        "longer clips, or name the pictures of one clip alike but for a number, such as "
        "walk_0001.png.",
        clips=short,
    )


def _black(seen: Sequence[Seen]) -> Advice | None:
    number, read = sum(clip.num_black for clip in seen), sum(clip.num_frames for clip in seen)
    if not read or number / read < MANY_BLACK:
        return None
    some = _numbers(seen, lambda clip: clip.num_black > 0)
    return Advice(
        f"{number / read:.0%} of the frames read are black, in {counted(len(some), 'clip')}.",
        "The models learn them like any other frame. Name the ranges without them in a table of "
        "file,start,end (docs/data.md, ranges of files) and train on that:",
        "ldf-video preview clips.csv",
        some,
    )


def _still(seen: Sequence[Seen]) -> Advice | None:
    still = _numbers(seen, lambda clip: clip.is_still)
    if not seen or len(still) / len(seen) < MANY_STILL:
        return None
    share = "All clips are" if len(still) == len(seen) else f"{len(still) / len(seen):.0%} are"
    return Advice(
        f"{share} still: from first to last frame nothing changes at this size.",
        "Videos will freeze. Leave still clips out; where something small moves, cut a window "
        "out of the large picture rather than shrink it:",
        "python scripts/data/cut_films.py CLIPS --out windows",
        still,
    )


def _repeats(seen: Sequence[Seen]) -> Advice | None:
    new = fresh(seen)
    repeats = tuple(n for n, clip in enumerate(seen) if clip.num_different and not new[n])
    if not seen or len(repeats) / len(seen) < MANY_REPEATS:
        return None
    return Advice(
        f"{counted(len(repeats), 'clip')} of {len(seen):,} show nothing but frames of other clips.",
        "The clips are all alike or there are copies among them: they add weight, and nothing to "
        "learn. Keep one of each, and bring others of the same kind.",
        clips=repeats,
    )


def _bars(seen: Sequence[Seen], geometry: Geometry) -> Advice | None:
    barred = _numbers(seen, lambda clip: clip.has_bars)
    if not barred or len(barred) / len(seen) < MANY_BLACK:
        return None
    bars = [_of_whole_frame(seen[number], geometry) for number in barred]
    top, bottom, left, right = np.median(bars, axis=0)
    height, width = 1 - top - bottom, 1 - left - right
    sides = "above and below" if min(top, bottom) >= min(left, right) else "left and right"
    return Advice(
        f"{counted(len(barred), 'clip')} of {len(seen):,} have black bars {sides}.",
        f"They take {1 - height * width:.0%} of every frame and are learned as part of the scene. "
        "Cut them off, clip by clip:",
        f"ffmpeg -i CLIP -vf crop=iw*{width:.3g}:ih*{height:.3g}:iw*{left:.3g}:ih*{top:.3g} "
        "-c:v libx264 -crf 12 WITHOUT.mp4",
        barred,
    )


def _of_whole_frame(clip: Seen, geometry: Geometry) -> Bars:
    """Black edges as shares of the source's own frames, of which a part may be all that is seen.

    An edge that is not black is not cut, though more lies beyond it.
    """
    if clip.size is None:
        return clip.bars
    height, width = clip.size
    box = geometry.box(height, width)
    below, beside = height - box.top - box.height, width - box.left - box.width
    edges = zip(
        clip.bars,
        (box.top, below, box.left, beside),
        (box.height, box.height, box.width, box.width),
        (height, height, width, width),
        strict=True,
    )
    return Bars(
        *((off + bar * part) / side if bar >= EDGE else 0 for bar, off, part, side in edges)
    )


def _dim(seen: Sequence[Seen]) -> Advice | None:
    dim = _numbers(seen, is_faint)
    if not dim or len(dim) / len(seen) < MANY_STILL:
        return None
    return Advice(
        f"{counted(len(dim), 'clip')} of {len(seen):,} have very little contrast.",
        "Losses count differences of pixels, so what is faint is learned last. Spread the levels "
        "first:",
        "ffmpeg -i CLIP -vf normalize -c:v libx264 -crf 12 CLEAR.mp4",
        dim,
    )


def is_faint(clip: Seen) -> bool:
    """Whether hardly anything is seen of a clip."""
    return not clip.is_black and clip.contrast < LOW_CONTRAST


def _numbers(seen: Sequence[Seen], holds: Callable[[Seen], bool]) -> tuple[int, ...]:
    return tuple(number for number, clip in enumerate(seen) if holds(clip))
