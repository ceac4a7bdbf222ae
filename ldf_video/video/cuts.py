"""Where a film cuts from one shot to the next, found while its frames go by.

A frame is compared with the one before it by means over a coarse grid of cells, which motion within
a cell does not change. A cut is a jump that stands out from the changes on both sides of it, after
which nothing is as it was: so fast motion, a flash, a flicker, a fade and a dissolve are none.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ldf_video.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from fractions import Fraction

CELLS = 8
"""Along each side of the grid."""
SAMPLES = 4
"""Pixels of a cell along each of its sides, at most."""
FAST = 20
"""Frames a second, below which more changes from one frame to the next."""
JUMP, SLOW_JUMP = 8.0, 16.0
"""Mean change of cells, of 255, above which a cut may be: in fast clips, and in slow ones."""
CLEAR = 3.0
"""How many times the changes on one side of a cut it must be."""
LEAST, SLOW_LEAST = 1.2, 1.5
"""The same of the other side, in fast clips, and in slow ones."""
NEAR = 4
"""Changes that are looked at on either side, in fast clips."""
NEAR_SECONDS = 1 / 6
"""The same in slow ones: farther away lies another shot, or another gesture."""
HELD = 0.15
"""Levels: below this a frame shows what the one before it did."""
FLASH_SECONDS, MOST_FLASH = 0.2, 8
"""For how long what was there may be gone without a cut, in seconds, and in frames at most."""
COMES_BACK = 0.5
"""Share of the jump within which frames on both sides are alike."""
SHORT_SECONDS, SHORT_FRAMES = 1.0, 16
"""Of a clip: one that is shorter stays whole, unless a jump is `EXTREME`."""
EXTREME = 100.0
MOST_AHEAD = 64
"""Frames that are looked at on either side, at most."""

BLOCK = 16
"""Frames that are looked at together."""

Cells = npt.NDArray[np.float32]
Frame: TypeAlias = npt.NDArray[np.uint8]


class CutFinder:
    """Finds the cuts of one clip; memory and time a frame do not grow with its length.

    Whether a frame begins a shot depends on `reach` frames on either side of it alone, and on
    whether the clip is short. So a clip that is gone on with `2 * reach` frames before the last
    known one gives the same cuts.
    """

    def __init__(self, fps: Fraction, *, first: int = 0) -> None:
        """Args: frames a second; the number of the first frame that is given."""
        rate = float(fps)
        self.reach = int(min(max(rate, NEAR), MOST_AHEAD))
        self._flash = int(min(max(round(FLASH_SECONDS * rate), 1), MOST_FLASH))
        is_fast = rate >= FAST
        self._jump = JUMP if is_fast else SLOW_JUMP
        self._least = LEAST if is_fast else SLOW_LEAST
        self._near = NEAR if is_fast else max(round(NEAR_SECONDS * rate), 1)
        self._short = max(SHORT_SECONDS * rate, SHORT_FRAMES)
        self._from = first + self.reach if first else 1  # what comes before is not known here
        self._base = first  # number of the first frame that is held
        self._next = first + 1  # to be decided on
        self._cells: Cells = np.empty((0, 0), np.float32)
        self._steps = np.empty(0, np.float32)  # how far each held frame is from the one before it

    @property
    def num_decided(self) -> int:
        """Frames before this one, the clip's first included, will be no cuts that are not known."""
        return self._next

    @property
    def _stop(self) -> int:
        return self._base + len(self._steps)

    def add(self, frames: npt.NDArray[np.uint8]) -> list[int]:
        """Look at the next frames, uint8 (n, H, W, 3), n at least 1.

        Returns:
            The numbers of frames that begin a shot, as far as they are certain by now.
        """
        cells = _cells(frames)
        before = self._cells[-1:] if len(self._cells) else cells[:1]
        steps = np.abs(np.diff(np.concatenate([before, cells]), axis=0)).mean(1)
        self._cells = np.concatenate([self._cells, cells]) if len(self._cells) else cells
        self._steps = np.concatenate([self._steps, steps])
        if self._stop < self._short:
            return []
        return self._decide(self._stop - self.reach)

    def end(self) -> list[int]:
        """Returns the same of the last frames, or of a whole clip that is short."""
        return self._decide(self._stop)

    def _decide(self, stop: int) -> list[int]:
        """Decide on all frames before `stop`, and let go of what is not needed any more."""
        asked = np.arange(max(self._next, self._from), max(stop, self._next, self._from))
        jumps = self._steps[asked - self._base]
        least = EXTREME if self._stop < self._short else self._jump
        found = [int(number) for number in asked[jumps > least] if self._is_cut(int(number))]
        self._next = max(self._next, stop)
        unneeded = self._next - 2 * self.reach - self._base
        if unneeded > 0:
            self._cells, self._steps = self._cells[unneeded:], self._steps[unneeded:]
            self._base += unneeded
        return found

    def _is_cut(self, number: int) -> bool:
        place = number - self._base
        jump, steps = float(self._steps[place]), self._steps
        back = steps[max(place - self.reach, 1 if self._base == 0 else 0) : place][::-1]
        ahead = steps[place + 1 : place + 1 + self.reach]
        ratios = [jump / (_activity(side, self._near) + 1) for side in (back, ahead) if len(side)]
        if not ratios or max(ratios) < CLEAR or min(ratios) < self._least:
            return False
        before = self._cells[max(place - self._flash, 0) : place]
        after = self._cells[place : place + self._flash]
        apart = np.abs(before[:, None] - after[None]).mean(2)
        return float(apart.min()) > COMES_BACK * jump


def shots(frames: Iterable[Frame], fps: Fraction) -> Iterator[Iterator[Frame]]:
    """Yields the shots of a clip, each as its frames (H, W, 3), to be taken before the next.

    A clip without a cut is one. Frames wait until it is certain that none of them begins another:
    twice `CutFinder.reach` at most. What `frames` raises comes behind the last one before it.
    """
    for _, shot in groupby(_with_shots(frames, fps), itemgetter(0)):
        yield (frame for _, frame in shot)


def _with_shots(frames: Iterable[Frame], fps: Fraction) -> Iterator[tuple[int, Frame]]:
    """Each frame behind the number of its shot."""
    finder, waiting, given = CutFinder(fps), deque[Frame](), iter(frames)
    cuts, first, shot = set[int](), 0, 0
    error: ReadError | None = None

    def decided(stop: int) -> Iterator[tuple[int, Frame]]:
        nonlocal first, shot
        for number in range(first, stop):
            shot += number in cuts
            yield shot, waiting.popleft()
        first = max(first, stop)

    is_whole = True
    while is_whole:
        new = list[Frame]()
        try:
            for frame in islice(given, BLOCK):
                new.append(frame)
        except ReadError as caught:
            error = caught
        if new:
            waiting.extend(new)
            cuts.update(finder.add(np.stack(new)))
        if is_whole := len(new) == BLOCK:
            yield from decided(finder.num_decided)
    cuts.update(finder.end())
    yield from decided(first + len(waiting))
    if error is not None:
        raise error


def _activity(side: npt.NDArray[np.float32], near: int) -> float:
    """How much changes beside a jump, nearest first: in `near` frames, or from drawing to drawing.

    Animations hold each drawing for some frames. Where nothing changes near by, single changes
    farther off count if there are several, or else they would all be cuts.
    """
    most = float(side[:near].max())
    if most >= HELD or len(side) <= near:
        return most
    still = np.concatenate([[True], side < HELD, [True]])
    single = side[still[:-2] & ~still[1:-1] & still[2:]]
    return float(np.partition(single, -2)[-2]) if len(single) > 1 else most


def _cells(frames: npt.NDArray[np.uint8]) -> Cells:
    """(n, H, W, 3) -> (n, cells * cells * 3): the mean of pixels in each cell, 0 to 255.

    Of a large cell every so-manyth row and column is taken; what no cell holds lies at the edges.
    """
    n, height, width, _ = frames.shape
    rows, columns = min(CELLS, height), min(CELLS, width)
    sums = np.zeros((n, rows, columns, 3), np.uint16)  # SAMPLES**2 * 255 fit
    taken = 0
    for row in _samples(height, rows):
        for column in _samples(width, columns):
            sums += frames[:, row, column]
            taken += 1
    return sums.reshape(n, -1).astype(np.float32) / np.float32(taken)


def _samples(size: int, cells: int) -> list[slice]:
    """Along a side: slices of one pixel of each cell."""
    cell = size // cells
    first, step = (size - cells * cell) // 2, -(-cell // SAMPLES)
    return [slice(first + k, first + cells * cell, cell) for k in range(0, cell, step)]
