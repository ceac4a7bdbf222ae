"""What is seen of a clip at one pass over its small frames, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import Column
from ldf_video.video.cuts import CutFinder
from ldf_video.video.strip import pack

Frames = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint64]

CELLS = 8
"""Frames are compared by the mean colours of so many cells each way."""
STEP = 4.0
"""Levels of 255 by which a cell must change for a frame to be a different one."""
BLACK = 12.0
"""A frame is black whose brightest cell is below this."""
EDGE = 0.03
"""Share of a side from which a black edge counts as a bar."""


class Bars(NamedTuple):
    """Edges that are black all the time, as shares of the height and of the width."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


NO_BARS = Bars()


@dataclass(frozen=True)
class Seen:
    """What was seen of one clip.

    Attributes:
        name: of its source, with the number of the clip in an array of clips behind a `#`.
        fps: frames a second.
        num_frames: that were looked at.
        about_frames: that it has, an estimate where it was not read to its end.
        different: a key for each of the different frames, see `Look`.
        num_black: black ones.
        contrast: mean spread of the pixels of those that are not black, in levels of 255.
        bars: black edges.
        strip: some frames, evenly from first to last, as `video.strip.pack` has them; empty where
            none is to be shown. `strip_shape` is their number, rows and columns.
        trouble: why it is not whole, or what else is to be known; empty if nothing.
        weight: how many clips it stands for, where only some are looked at.
        size: rows and columns of the source's own frames, None where that is not known.
        label: what the user calls it.
        cuts: where another shot begins, in seconds.
        columns: what is known of its frames beside their pixels.
        num_told: frames of which something is.
    """

    name: str
    fps: Fraction
    num_frames: int
    about_frames: int
    different: Keys
    num_black: int = 0
    contrast: float = 0.0
    bars: Bars = NO_BARS
    strip: bytes = b""
    strip_shape: tuple[int, int, int] = (0, 0, 0)
    trouble: str = ""
    weight: float = 1.0
    size: tuple[int, int] | None = None
    label: str = ""
    cuts: tuple[float, ...] = ()
    columns: tuple[Column, ...] = ()
    num_told: int = 0

    @property
    def num_different(self) -> int:
        return len(self.different)

    @property
    def is_still(self) -> bool:
        """Whether it has several frames and all show the same."""
        return self.num_frames > 1 and self.num_different == 1 and not self.num_black

    @property
    def is_black(self) -> bool:
        """Whether nothing is seen in any frame."""
        return self.num_black == self.num_frames

    @property
    def has_bars(self) -> bool:
        """Whether both edges of one direction are black."""
        return min(self.bars[:2]) >= EDGE or min(self.bars[2:]) >= EDGE

    @property
    def about_seconds(self) -> float:
        return float(self.about_frames / self.fps)


class Look:
    """A clip that is looked at, frame after frame.

    A frame is different where a cell's mean colour is off by 4 levels or more from the last one of
    the clip that was; black frames are none. Its key is that of every frame, in any clip, whose
    cells are equal in steps of 4 levels.
    """

    def __init__(self, fps: Fraction, *, strip: int, cuts: bool = True) -> None:
        """Begins with nothing seen.

        Args:
            fps: frames a second.
            strip: how many frames are kept to be shown, 0 for none.
            cuts: whether cuts are looked for.
        """
        self._fps, self._finder = fps, CutFinder(fps) if cuts else None
        self._cuts = list[int]()
        self._strip, self._kept, self._every = strip, list[Frames](), 1
        self._counted: Cells | None = None
        self._keys = bytearray()
        self._spread = 0.0
        self._brightest: Frames | None = None  # that each pixel ever was, (H, W)
        self.num_frames = self._num_black = 0

    def add(self, frames: Frames) -> None:
        """See the next frames, (T, H, W, 3); only some are kept, as copies."""
        if self._finder is not None:
            self._cuts += self._finder.add(frames)
        brightest = frames.max((0, 3))
        before = self._brightest
        self._brightest = brightest if before is None else np.maximum(before, brightest)
        spreads = frames.reshape(len(frames), -1).std(1)
        for frame, cells, spread in zip(frames, cell_means(frames), spreads, strict=True):
            self._keep(frame)
            self.num_frames += 1
            if cells.max() < BLACK:
                self._num_black += 1
                continue
            self._spread += float(spread)
            if self._counted is None or np.abs(cells - self._counted).max() >= STEP:
                self._counted = cells
                levels = np.round(cells / STEP).astype(np.uint8)
                self._keys += blake2b(levels.tobytes(), digest_size=8).digest()

    def _keep(self, frame: Frames) -> None:
        """Keep one frame in so many; half as many once twice what is needed are kept."""
        if self._strip and self.num_frames % self._every == 0:
            if len(self._kept) == 2 * self._strip:
                self._kept, self._every = self._kept[::2], 2 * self._every
            if self.num_frames % self._every == 0:
                self._kept.append(frame.copy())

    def end(
        self,
        name: str,
        *,
        about_frames: int = 0,
        trouble: str = "",
        weight: float = 1.0,
        size: tuple[int, int] | None = None,
        label: str = "",
    ) -> Seen:
        """What was seen of at least one frame; `about_frames` where there are more."""
        assert self._brightest is not None
        cuts = self._cuts + ([] if self._finder is None else self._finder.end())
        strip, shape = b"", (0, 0, 0)
        if self._kept:
            places = np.linspace(0, len(self._kept) - 1, min(self._strip, len(self._kept)))
            shown = np.stack([self._kept[place] for place in places.round().astype(int)])
            strip, shape = pack(shown), shown.shape[:3]
        num_lit = self.num_frames - self._num_black
        return Seen(
            name,
            self._fps,
            self.num_frames,
            max(self.num_frames, about_frames),
            np.frombuffer(bytes(self._keys), np.uint64),
            self._num_black,
            self._spread / num_lit if num_lit else 0.0,
            _bars(self._brightest),
            strip,
            shape,
            trouble,
            weight,
            size,
            label,
            tuple(float(frame / self._fps) for frame in cuts),
        )


def told_line(seen: Sequence[Seen]) -> str:
    """What is known of the frames of clips, and of how many of those looked at; "" for nothing."""
    names: dict[str, dict[str, None]] = {}
    for clip in seen:
        for column in clip.columns:
            names.setdefault(column.name, {}).update(dict.fromkeys(column.names))
    if not names:
        return ""
    listed = ", ".join(str(Column(name, tuple(found))) for name, found in names.items())
    num_told, num_frames = sum(clip.num_told for clip in seen), sum(one.num_frames for one in seen)
    of_all = "all" if num_told == num_frames else f"{num_told:,} of {num_frames:,}"
    return f"conditions of {of_all} frames that were looked at: {listed}"


def cell_means(frames: Frames) -> Cells:
    """Mean colours of cells: frames (T, H, W, 3) -> (T, n, m, 3), n and m at most `CELLS`."""
    _, height, width, _ = frames.shape
    rows, columns = (
        np.linspace(0, side, min(CELLS, side), endpoint=False).astype(int)
        for side in (height, width)
    )
    sums = np.add.reduceat(frames, rows, axis=1, dtype=np.float32)
    sums = np.add.reduceat(sums, columns, axis=2)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return (sums / counts[..., None]).astype(np.float32)


def fresh(seen: Sequence[Seen]) -> npt.NDArray[np.int64]:
    """How many of each clip's different frames no clip before it has, (n,)."""
    if not seen:
        return np.zeros(0, np.int64)
    _, first = np.unique(np.concatenate([clip.different for clip in seen]), return_index=True)
    stops = np.cumsum([clip.num_different for clip in seen])
    return np.bincount(np.searchsorted(stops, first, "right"), minlength=len(seen))


def _bars(brightest: Frames) -> Bars:
    """Edges that are black in the brightest that each pixel (H, W) ever was."""
    lit: npt.NDArray[np.bool_] = np.asarray(brightest >= 2 * BLACK)
    if not lit.any():
        return NO_BARS
    top, bottom = _edges(np.logical_or.reduce(lit, axis=1))
    left, right = _edges(np.logical_or.reduce(lit, axis=0))
    return Bars(top, bottom, left, right)


def _edges(lit: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The shares of a side before the first and behind the last that is lit."""
    at = np.flatnonzero(lit)
    return float(at[0] / lit.size), float((lit.size - 1 - at[-1]) / lit.size)
