"""How far neighbouring frames are apart, and the last one of a loop from its first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PARTS = 1000
"""Of a level of 255: to so many a distance is rounded, so that counts of each stand for all."""


@dataclass(frozen=True)
class Seams:
    """Where loops close, in mean absolute differences of pixels, 0 to 255.

    Attributes:
        distances: of the last frame of each loop from its first.
        low: 5th percentile of the distances between neighbouring frames, of all loops together.
        high: 95th percentile of them.
    """

    distances: tuple[float, ...]
    low: float
    high: float

    @property
    def unseen(self) -> int:
        """Loops whose seam is no smaller and no larger than most steps."""
        return sum(self.low <= distance <= self.high for distance in self.distances)

    def __str__(self) -> str:
        near = f"neighbouring frames {self.low:.2f} to {self.high:.2f} (5th to 95th percentile)"
        if len(self.distances) == 1:
            return f"seam {self.distances[0]:.2f} of 255, {near}"
        ends = f"{min(self.distances):.2f} to {max(self.distances):.2f} of 255"
        return f"seams {ends}, {near}: {self.unseen} of {len(self.distances)} within"


class Steps:
    """Distances between the frames of videos that are made a part at a time.

    It takes no more memory for longer videos, and a number for each one that is closed.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(255 * PARTS + 1, np.int64)
        self._first: npt.NDArray[np.uint8] | None = None
        self._last: npt.NDArray[np.uint8] | None = None
        self._closed: list[float] = []

    def add(self, frames: npt.NDArray[np.uint8]) -> None:
        """Look at the next frames (N, n, H, W, 3), n at least 1."""
        if self._first is None or self._last is None:
            self._first = frames[:, :1].copy()  # a view would keep them all
        else:
            frames = np.concatenate([self._last, frames], axis=1)
        np.add.at(self._counts, _distances(frames).ravel(), 1)
        self._last = frames[:, -1:].copy()

    def close(self) -> None:
        """The videos are loops and end here: what comes next are others."""
        assert self._first is not None
        assert self._last is not None
        seams = _distances(np.concatenate([self._last, self._first], axis=1))
        self._closed += (seams[:, 0] / PARTS).tolist()
        self._first = self._last = None

    def percentile(self, share: float) -> float:
        """Of the distances between neighbouring frames, as `numpy.percentile`."""
        up_to = np.cumsum(self._counts)
        place = share / 100 * (up_to[-1] - 1)
        below, above = np.searchsorted(up_to, [np.floor(place), np.ceil(place)], side="right")
        return float(below + (above - below) * (place % 1)) / PARTS

    def seams(self) -> Seams:
        """What to say of the loops that were closed."""
        return Seams(tuple(self._closed), self.percentile(5), self.percentile(95))


def _distances(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(N, n, H, W, 3) -> (N, n - 1), in parts of a level."""
    moved = np.abs(np.diff(frames.astype(np.int16), axis=1))
    return np.rint(moved.mean((2, 3, 4), dtype=np.float64) * PARTS).astype(np.int64)
