"""Which frames of a source a file of conditions tells of: a row for each, in their order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ldf_video.arrays.conditions import Column, Conditions
from ldf_video.clips.condition_files import read_conditions
from ldf_video.errors import ReadError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import av

    from ldf_video.sources.source import Source

_KNOWN = 64
"""Frames whose numbers are known: more than are ever decoded ahead of the one that is shown."""


@dataclass(frozen=True, eq=False)
class Told:
    """What is known of all frames of a source.

    Attributes:
        known: of the frames of all its clips, one clip after the other; None for nothing.
        name: of the file.
        problem: why the file is not used, "" if it is.
    """

    known: Conditions | None = None
    name: str = ""
    problem: str = ""

    def of_clip(self, index: int | None, num_clips: int) -> CountedFrames:
        """That of one clip; those of an array of clips have an equal share of the rows each."""
        if self.known is None:
            return CountedFrames(None, self._not_used(self.problem))
        if index is None:
            return CountedFrames(self.known, name=self.name)
        rows, rest = divmod(len(self.known.values), num_clips)
        if rest:
            problem = f"{len(self.known.values):,} rows, expected as many for each of the clips"
            return CountedFrames(None, self._not_used(problem))
        part = self.known.values[index * rows : (index + 1) * rows]
        return CountedFrames(Conditions(self.known.columns, part), name=self.name)

    def _not_used(self, problem: str) -> str:
        return f"conditions are not used, {self.name}: {problem}" if problem else ""


def read_told(source: Source, *, alive: Callable[[], None] = lambda: None) -> Told:
    """Read the file that tells of a source's frames; what is wrong with it costs no frame."""
    path = source.conditions_path
    if path is None:
        return Told()
    try:
        return Told(read_conditions(path, alive=alive), path.name)
    except ReadError as error:
        return Told(None, path.name, str(error))
    except OSError as error:
        return Told(None, path.name, reason_of(error))


class CountedFrames:
    """The frames of a clip, counted as they are decoded, so that each finds its row."""

    def __init__(self, known: Conditions | None, problem: str = "", *, name: str = "") -> None:
        self._known, self._problem, self._name = known, problem, name
        self._numbers: deque[tuple[int, int]] = deque(maxlen=_KNOWN)  # by the id of the frame
        self._row = -1  # of the frame that was given last
        self._num_frames: int | None = None  # of the source, once all were decoded

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is known."""
        return () if self._known is None else self._known.columns

    def frames(self, frames: Iterable[av.VideoFrame], first: int = 0) -> Iterator[av.VideoFrame]:
        """Yields frames as they come from the source, from number `first` on."""
        if self._known is None:
            yield from frames
            return
        number = first
        for frame in frames:
            self._numbers.append((id(frame), number))
            number += 1
            yield frame
        self._num_frames = number

    def given(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yields frames as they are shown, some of them often or never."""
        for frame in frames:
            # While a frame is there no other has its id, and what had it before came earlier.
            self._row = next((n for one, n in reversed(self._numbers) if one == id(frame)), -1)
            yield frame

    def told(self) -> list[float | None]:
        """Returns what is known of the frame that was given last."""
        if self._known is None:
            return []
        if not 0 <= self._row < len(self._known.values):
            return [None] * len(self.columns)
        row = self._known.values[self._row]
        return [float(value) if np.isfinite(value) else None for value in row]

    def note(self) -> str:
        """Returns what is wrong with the file, "" if nothing is."""
        if self._known is None or self._num_frames is None:
            return self._problem
        rows, frames = len(self._known.values), self._num_frames
        if rows == frames:
            return ""
        rest = "the rest is unknown" if rows < frames else "the rest is passed over"
        return f"{self._name} has {rows:,} rows for {frames:,} frames: {rest}"
