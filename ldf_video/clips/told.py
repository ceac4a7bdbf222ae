"""What is known of each frame of a source, by a file beside it or by what the source holds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ldf_video.arrays.actions import ROWS
from ldf_video.arrays.conditions import Column, Conditions, KnownFrames, Values, unknown
from ldf_video.clips.condition_files import read_conditions
from ldf_video.errors import ReadError, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import av

    from ldf_video.sources.source import Source
    from ldf_video.video.media import Media

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

    def of_clip(self, media: Media, num_clips: int) -> CountedFrames:
        """That of one clip; those of an array of clips have an equal share of the rows each.

        Where no file tells, what is known is what the clip's own source holds.
        """
        if self.problem:
            return CountedFrames(None, self._not_used(self.problem))
        if self.known is None:
            return _own(media)
        if media.index is None:
            return self._counted(self.known)
        rows, rest = divmod(len(self.known.values), num_clips)
        if rest:
            problem = f"{len(self.known.values):,} rows, expected as many for each of the clips"
            return CountedFrames(None, self._not_used(problem))
        part = self.known.values[media.index * rows : (media.index + 1) * rows]
        return self._counted(Conditions(self.known.columns, part))

    def _counted(self, conditions: Conditions) -> CountedFrames:
        num_rows = len(conditions.values)
        return CountedFrames(conditions.as_frames(), name=self.name, num_rows=num_rows)

    def _not_used(self, problem: str) -> str:
        return f"conditions are not used, {self.name}: {problem}"


def _own(media: Media) -> CountedFrames:
    """What the arrays or tables of a clip's own source tell of it."""
    try:
        return CountedFrames(media.known and media.known(), media.known_said)
    except ReadError as error:
        return CountedFrames(None, f"conditions are not used, {error}")


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
    """The frames of a clip, counted as they are decoded, so that each finds what is known of it."""

    def __init__(
        self, known: KnownFrames | None, said: str = "", *, name: str = "", num_rows: int = 0
    ) -> None:
        """Nothing is counted yet.

        Args:
            known: of the frames; None for nothing.
            said: what a user must know of it.
            name: of the file that has a row a frame; "" where rows fit frames for sure.
            num_rows: of that file.
        """
        self._known, self._said, self._name, self._num_rows = known, said, name, num_rows
        self._numbers: deque[tuple[int, int]] = deque(maxlen=_KNOWN)  # by the id of the frame
        self._number = -1  # of the frame that was given last
        self._num_frames: int | None = None  # of the source, once all were decoded
        self._first, self._block = 0, unknown(0, self.columns)  # what was read last

    @property
    def columns(self) -> tuple[Column, ...]:
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
            found = (n for one, n in reversed(self._numbers) if one == id(frame))
            self._number = next(found, -1)
            yield frame

    def told(self) -> list[float | None]:
        """Returns what is known of the frame that was given last."""
        if self._known is None:
            return []
        if self._number < 0:
            return [None] * len(self.columns)
        row = self._row(self._known, self._number)
        return [float(value) if np.isfinite(value) else None for value in row]

    def _row(self, known: KnownFrames, number: int) -> Values:
        if not self._first <= number < self._first + len(self._block):
            self._first, self._block = number, unknown(ROWS, self.columns)
            try:
                self._block = known.read(number, number + ROWS)
            except ReadError as error:
                self._said = f"conditions end at frame {number:,}: {error}"
        row: Values = self._block[number - self._first]
        return row

    def note(self) -> str:
        """Returns what a user must know of it, "" for nothing."""
        if not self._name or self._known is None or self._num_frames is None:
            return self._said
        rows, frames = self._num_rows, self._num_frames
        if rows == frames:
            return ""
        rest = "the rest is unknown" if rows < frames else "the rest is passed over"
        return f"{self._name} has {rows:,} rows for {frames:,} frames: {rest}"
