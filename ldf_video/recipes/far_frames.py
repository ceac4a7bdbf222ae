"""Strips of long clips, of which a preview has read the beginning: frames from all over them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ldf_video.intake.seen import Seen
from ldf_video.readers.pool import ReaderPool
from ldf_video.readers.reading import FramesRead
from ldf_video.sources.ranges import Range
from ldf_video.sources.source import Source
from ldf_video.video.geometry import Geometry
from ldf_video.video.strip import pack

Frames = npt.NDArray[np.uint8]

SECONDS = 2.0
"""That may pass for the strip of one clip, from the first word of a reader on."""
MOST_SECONDS = 30.0
"""For those of all clips together."""
FEWEST = 3
"""Frames of a strip that say more of a long clip than its beginning does."""
TOLD = "the strip shows its beginning alone: to read from its middle takes long"


def spread_strips(
    clips: Sequence[tuple[Source, Seen]],
    geometry: Geometry,
    num_workers: int,
) -> list[Seen]:
    """Replace strips by ones whose frames lie evenly from the start of a clip to its end.

    Where in a file reading can begin it does: in MOV and Matroska films, in arrays and in numbered
    pictures. Other films are decoded from their start, as far as the time allows.

    Args:
        clips: each a source that is one clip, and what was seen at its beginning.
        geometry: what frames are brought to.
        num_workers: processes that read.

    Returns:
        What was seen with another strip, or with a word on why the strip is as it was.
    """
    done, began = list[Seen](), time.monotonic()
    with ReaderPool(geometry, num_workers=num_workers, hashed=False, most_frames=1) as pool:
        for source, seen in clips:
            left = MOST_SECONDS - (time.monotonic() - began)
            shown = _far_frames(pool, _places(source, seen), min(SECONDS, left))
            if shown is None:
                trouble = "; ".join(filter(None, (seen.trouble, TOLD)))
                done.append(replace(seen, trouble=trouble))
            else:
                done.append(replace(seen, strip=pack(shown), strip_shape=shown.shape[:3]))
    return done


def _places(source: Source, seen: Seen) -> list[Source]:
    """The clip from one place after another on, each as a range of its file."""
    whole = source.part or Range()
    name, count = source.name.removesuffix(whole.suffix), seen.strip_shape[0]
    places = []
    for number in range(count):
        start = whole.start + Fraction(seen.about_frames * number, count) / seen.fps
        part = replace(whole, start=Fraction(round(start * 1000), 1000))
        places.append(replace(source, name=name + part.suffix, part=part))
    return places


def _far_frames(pool: ReaderPool, places: Sequence[Source], seconds: float) -> Frames | None:
    """The first frames (H, W, 3) of places, as (T, H, W, 3); None of too few, where time runs out.

    They are looked up from coarse to fine, so that those that were found in time are spread.
    """
    numbers = {place.name: number for number, place in enumerate(places)}
    begun = sorted(places, key=lambda place: _coarse_first(numbers[place.name] / len(places)))
    found, deadline = dict[int, Frames](), math.inf
    for event in pool.read(begun) if seconds > 0 else ():
        now = time.monotonic()
        if event is not None:  # a reader has begun
            deadline = min(deadline, now + seconds)
        if isinstance(event, FramesRead):
            found[numbers[event.clip.source.name]] = event.frames[0].copy()
        if now > deadline:
            break
    # The length is an estimate, too: the last places may lie behind the end.
    if len(found) < min(FEWEST, len(places)):
        return None
    return np.stack([found[number] for number in sorted(found)])


def _coarse_first(share: float) -> int:
    """Sorts shares of a whole: 0, a half, a quarter, three quarters, an eighth, ..."""
    return int(f"{int(share * 64):06b}"[::-1], 2)
