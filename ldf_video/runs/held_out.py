"""Clips that training never sees, to tell by whether it learns or remembers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ldf_video.store.reader import StoreReader

RULE = "recordings"
"""What a run's config remembers; a run without it began when every 20th clip was held out."""
FEWEST_CLIPS = 20
"""With fewer, all are learned from; of an array of so many, one in 20 can be spared."""
SHARE, MOST, LEAST = 1 / 20, 1 / 10, 1 / 100
"""Of recordings, by chance; of everything that there is to learn from, at most, and at least."""
USUAL_WINDOW = 16

_ID = re.compile(r"([^#+]*)(?:#(\d+))?(?:\+(\d+))?")
"""Of a clip: its recording's, its number in an array, the first frame behind a cut."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Clips to learn from (`known`), clips to measure on or None, and that `said` in words."""

    known: StoreReader
    held_out: StoreReader | None
    said: str


def split(store: StoreReader, *, rule: str | None = RULE) -> Split:
    """Hold some clips out, a function of what the store holds.

    All clips of a recording (a file, or a folder of pictures) go to one side, by the hash of its
    content, so that one that is added leaves the others where they are. Where no whole recordings
    can be spared, each array of many clips spares its first ones. `rule` is the run's.
    """
    if store.num_clips < FEWEST_CLIPS:
        return Split(store, None, f"none held out of fewer than {FEWEST_CLIPS} clips")
    which = ""
    if rule is None:
        held = np.arange(store.num_clips) % 20 == 0
    else:
        recordings = _Recordings(store)
        held = recordings.some()
        if not held.any():
            held, which = recordings.first_clips(), ", the first ones of each array"
    if not held.any():
        return Split(store, None, "none held out: too few files have most of the frames")
    said = f"{held.sum():,} more clips held out{which}"
    return Split(store.select(np.flatnonzero(~held)), store.select(np.flatnonzero(held)), said)


class _Recordings:
    """The recordings that a store's clips come from: they lie side by side, as ids begin alike."""

    def __init__(self, store: StoreReader) -> None:
        parts = [_ID.match(clip_id) for clip_id in store.clip_ids]
        names = [part[1] if part else "" for part in parts]
        starts = [i for i, name in enumerate(names) if not i or name != names[i - 1]]
        self._clips = np.diff([*starts, len(names)])  # how many clips each has
        numbers = [int(part[2] or 0) if part else 0 for part in parts]
        shots = [int(part[3] or 0) if part else 0 for part in parts]
        recording = np.repeat(np.arange(len(starts)), self._clips)
        self._number = np.array(numbers)
        if any(shots):
            order = np.lexsort(np.array([shots, numbers, recording]))
            self._number[order] = np.arange(len(names)) - np.repeat(starts, self._clips)
        hashed = [hashlib.sha256(names[start].encode()).digest()[:8] for start in starts]
        self._place = np.array([int.from_bytes(digest) / 2**64 for digest in hashed])
        self._amounts = np.add.reduceat(_amounts(store.lengths), starts)
        self._amounts[:, 0] = 1

    def some(self) -> npt.NDArray[np.bool_]:
        """Whether each clip is of one in 20 recordings; none are where that is much or little."""
        total = self._amounts.sum(0)
        held, chosen = np.zeros_like(total), np.zeros(len(self._place), np.bool_)
        for number in np.argsort(self._place):
            lacking = _lacking(held, total)
            if self._place[number] >= SHARE and not lacking.any():
                break
            more = held + self._amounts[number]
            helps = self._place[number] < SHARE or (more > held)[lacking].any()
            if helps and (more <= MOST * total).all():
                held, chosen[number] = more, True
        return np.repeat(chosen & ~_lacking(held, total).any(), self._clips)

    def first_clips(self) -> npt.NDArray[np.bool_]:
        """Whether each clip is among the first twentieth of those of its recording."""
        spared = np.repeat(self._clips // FEWEST_CLIPS, self._clips)
        return self._number < spared


def _amounts(lengths: Integers) -> Integers:
    """What each clip has to learn from: itself, its frames, steps, windows, longest windows."""
    longest = int(lengths.max())
    windows = (1, 2, min(USUAL_WINDOW, longest), longest)
    columns = [np.maximum(lengths - window + 1, 0) for window in windows]
    return np.stack([np.ones_like(lengths), *columns], axis=1)


def _lacking(held: Integers, total: Integers) -> npt.NDArray[np.bool_]:
    """Of which amounts too little is held out: frames and steps from frame to frame count."""
    counts = np.array([False, True, True, False, False])
    return counts & (held < LEAST * total)
