"""How far neighbouring frames are apart, and the last one of a loop from its first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
    """Distances between the frames of videos that are made a part at a time."""

    def __init__(self) -> None:
        self._within: list[npt.NDArray[np.float32]] = []
        self._first: npt.NDArray[np.uint8] | None = None
        self._last: npt.NDArray[np.uint8] | None = None

    def add(self, frames: npt.NDArray[np.uint8]) -> None:
        """Look at the next frames (N, n, H, W, 3), n at least 1."""
        if self._last is not None:
            frames = np.concatenate([self._last, frames], axis=1)
        else:
            self._first = frames[:, :1]
        self._within.append(_distances(frames))
        self._last = frames[:, -1:]

    def within(self) -> npt.NDArray[np.float32]:
        """Distances (N, frames - 1) of each frame from the one before it."""
        return np.concatenate(self._within, axis=1)

    def seams(self) -> npt.NDArray[np.float32]:
        """Distances (N,) of the last frames from the first ones."""
        assert self._first is not None
        assert self._last is not None
        return _distances(np.concatenate([self._last, self._first], axis=1))[:, 0]


def seams(steps: list[Steps]) -> Seams:
    """What to say of loops that were made in several batches."""
    near = np.concatenate([part.within().ravel() for part in steps])
    low, high = np.percentile(near, [5, 95]).tolist()
    return Seams(tuple(np.concatenate([part.seams() for part in steps]).tolist()), low, high)


def _distances(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, n, H, W, 3) -> (N, n - 1)."""
    moved = np.abs(np.diff(frames.astype(np.int16), axis=1))
    return moved.mean((2, 3, 4), dtype=np.float32)
