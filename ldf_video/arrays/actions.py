"""Actions in arrays beside the frames of clips: their rows, and the frame that each led to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ldf_video.arrays.axes import sizes_of
from ldf_video.arrays.conditions import MOST_COLUMNS, MOST_NAMES, Column, KnownFrames, unknown
from ldf_video.errors import ReadError, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ldf_video.arrays.conditions import Values
    from ldf_video.arrays.frame_array import NumberArray

ROWS = 4096
"""That are read at once."""
MOST_ACTIONS = 64
"""Different whole numbers of one column, up to which they are actions and not amounts."""
NO_PATTERNS: Mapping[str, str] = {}
_MOST_LETTERS = 100


class AlikeArrays:
    """The arrays of one kind in a file, such as those of its episodes; each is added when found.

    Attributes:
        first: that was added first, whose columns all of them have.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NumberArray] = {}

    @property
    def first(self) -> NumberArray:
        return next(iter(self._arrays.values()))

    def add(self, array: NumberArray) -> None:
        self._arrays.setdefault(array.name, array)

    @cached_property
    def codes(self) -> Mapping[Any, int] | None:
        """The code of each value where values are names; None where they are numbers.

        Texts are names. So are whole numbers from 0 on, of 64 kinds at most: actions of a game are
        told apart, and none of them is more than another.

        Raises:
            ReadError: texts are too many, or too long.
        """
        is_text, found = self.first.dtype.kind in "SU", set[Any]()
        kinds = "SU" if is_text else "iu"
        for array in self._arrays.values():
            for values in _blocks(array) if array.dtype.kind in kinds else ():
                found.update(_texts(values) if is_text else np.unique(values).tolist())
                if not is_text and (len(found) > MOST_ACTIONS or min(found, default=0) < 0):
                    return None
        found.discard("")
        if is_text and len(found) > MOST_NAMES:
            raise ReadError(f"{self.first.name} has more than {MOST_NAMES} different names")
        for name in found if is_text else ():
            if len(name) > _MOST_LETTERS or not name.isprintable():
                raise ReadError(f"{self.first.name} is {name[:_MOST_LETTERS]!r}: expected a name")
        return {value: code for code, value in enumerate(sorted(found))}


@dataclass(frozen=True, eq=False)
class ActionArray:
    """One array whose rows tell of frames.

    Attributes:
        array: (rows,), (rows, columns), or structured (rows,); with an axis of clips where the
            frames have one.
        lead: 1 where a row led to the frame behind its own, as recorders write an action beside
            what was seen when it was chosen; 0 where it tells of its own frame.
        names: of its columns.
        alike: arrays of its kind in the file.
    """

    array: NumberArray
    lead: int
    names: tuple[str, ...]
    alike: AlikeArrays

    @property
    def has_codes(self) -> bool:
        """Whether its values may be names."""
        return len(self.names) == 1 and self.array.dtype.kind in "iuSU"

    def columns(self) -> list[Column]:
        """What its columns hold; see `AlikeArrays.codes`."""
        if not self.has_codes or (codes := self.alike.codes) is None:
            return [Column(name) for name in self.names]
        return [Column(self.names[0], tuple(map(str, codes)))]

    def coded(self, rows: NDArray[Any]) -> Values:
        """Rows (n, ...) as values (n, columns)."""
        if rows.dtype.names:
            return np.stack([_numbers(rows[field]) for field in rows.dtype.names], axis=1)
        codes = self.alike.codes if self.has_codes else None
        if codes is None:
            return _numbers(rows.reshape(len(rows), -1))
        listed = _texts(rows) if rows.dtype.kind in "SU" else rows.ravel().tolist()
        return np.array([[codes.get(value, math.nan)] for value in listed], np.float32)


def column_names(array: NumberArray, name: str, *, leading: int) -> tuple[str, ...]:
    """The names of an array's columns: its fields, or a name, with numbers if there are several.

    Args:
        array: whose `leading` axes count frames, and clips.
        name: of the columns.
        leading: axes.

    Raises:
        ReadError: it holds no rows of numbers or names.
    """
    dtype, rest = array.dtype, array.shape[leading:]
    types = [dtype[field] for field in dtype.names] if dtype.names else [dtype]
    if dtype.hasobject:
        raise ReadError(f"{array.name} holds objects, which are not opened: expected numbers")
    if wrong := [one for one in types if one.kind not in ("biuf" if dtype.names else "biufSU")]:
        raise ReadError(f"{array.name} holds {wrong[0]}: expected numbers")
    if len(rest) > (0 if dtype.names else 1) or (dtype.kind in "SU" and rest not in ((), (1,))):
        raise ReadError(f"{array.name} has shape {array.shape}: expected (frames, columns)")
    width = math.prod(rest)
    if max(width, len(types)) > MOST_COLUMNS or not width:
        raise ReadError(f"{array.name} has {width:,} columns: expected 1 to {MOST_COLUMNS}")
    names = dtype.names or ([name] if width == 1 else [f"{name}{n}" for n in range(width)])
    if unfit := [one for one in names if len(one) > _MOST_LETTERS or not one.isprintable()]:
        raise ReadError(f"{array.name}: column {unfit[0][:_MOST_LETTERS]!r}: expected a short name")
    return tuple(names)


class ActionArrays:
    """All that tells of the frames of one array of frames.

    Attributes:
        parts: arrays whose columns stand side by side.
    """

    def __init__(
        self, parts: Sequence[ActionArray], *, axes: str, shape: tuple[int, ...], is_cut: bool
    ) -> None:
        """Reads nothing yet.

        Args:
            parts: the arrays.
            axes: of the array of frames, see `Layout.axes`.
            shape: of it.
            is_cut: whether its frames are of several episodes, one after the other.

        Raises:
            ReadError: rows do not fit frames.
        """
        self.parts = parts
        self._order = [axis for axis in axes if axis in "NT"]
        sizes = sizes_of(axes, shape)
        for part in parts:
            self._check(part, sizes["N"], sizes["T"], is_cut=is_cut)
        twice = Counter(name for part in parts for name in part.names)
        for name, count in twice.items():
            if count > 1:
                raise ReadError(f"two columns {name!r}: each needs another name")
        if len(twice) > MOST_COLUMNS:
            raise ReadError(f"{len(twice)} columns: expected {MOST_COLUMNS} at most")

    def said(self, patterns: Mapping[str, str] = NO_PATTERNS) -> str:
        """It in words, arrays of several episodes by the pattern of their paths."""
        return "; ".join(
            f"{patterns.get(part.array.name, part.array.name)}, "
            f"{counted(len(part.names), 'column')}: a row "
            + ("led to the next frame" if part.lead else "is of its own frame")
            for part in self.parts
        )

    def content(self) -> Iterator[bytes]:
        """Yields what identifies it."""
        for part in self.parts:
            array = part.array
            yield repr((array.name, array.shape, str(array.dtype), part.lead, part.names)).encode()
            yield from array.stored()

    def of(self, clip: int, frames: range) -> KnownFrames:
        """What is known of some frames of a clip, which are an episode.

        All of it is looked at.

        Raises:
            ReadError: it cannot be read, or numbers are infinite.
        """
        columns = tuple(column for part in self.parts for column in part.columns())

        def read(first: int, stop: int) -> Values:
            found, place = unknown(stop - first, columns), 0
            for part in self.parts:
                width, rows = len(part.names), self._rows_of(part)
                begin = max(first - part.lead, 0)
                end = min(stop - part.lead, len(frames) - part.lead, rows - frames.start)
                if begin < end:
                    some = self._read(part, clip, frames.start + begin, frames.start + end)
                    where = slice(begin + part.lead - first, end + part.lead - first)
                    found[where, place : place + width] = part.coded(some)
                place += width
            return found

        if any(part.array.dtype.kind in "fV" for part in self.parts):
            for first in range(0, len(frames), ROWS):
                infinite = np.isinf(read(first, min(first + ROWS, len(frames))))
                if infinite.any():
                    frame, column = np.argwhere(infinite)[0].tolist()
                    raise ReadError(f"{columns[column].name} is infinite at frame {first + frame}")
        return KnownFrames(columns, read)

    def _rows_of(self, part: ActionArray) -> int:
        return part.array.shape[self._order.index("T")]

    def _check(self, part: ActionArray, clips: int, frames: int, *, is_cut: bool) -> None:
        name, leading = part.array.name, part.array.shape[: len(self._order)]
        found = dict(zip(self._order, leading, strict=False))
        if len(leading) < len(self._order) or found.get("N", clips) != clips:
            raise ReadError(
                f"{name} has shape {part.array.shape}, for {clips:,} clips of {frames:,}"
            )
        is_between = part.lead and not is_cut  # an action between frames
        if found["T"] != frames and not (is_between and found["T"] == frames - 1):
            raise ReadError(
                f"{name} has {counted(found['T'], 'row')} for {counted(frames, 'frame')}: expected "
                "as many" + (", or one less" if is_between else "")
            )

    def _read(self, part: ActionArray, clip: int, begin: int, end: int) -> NDArray[Any]:
        taken = {"N": slice(clip, clip + 1), "T": slice(begin, end)}
        rest = (slice(None),) * (len(part.array.shape) - len(self._order))
        rows = part.array.read((*(taken[axis] for axis in self._order), *rest))
        return rows.squeeze(self._order.index("N")) if "N" in self._order else rows


def _blocks(array: NumberArray) -> Iterator[NDArray[Any]]:
    """Parts of an array, in order; what is damaged is passed over."""
    step = max(1, ROWS // max(1, math.prod(array.shape[1:])))
    rest = (slice(None),) * (len(array.shape) - 1)
    for first in range(0, array.shape[0], step):
        try:
            yield array.read((slice(first, first + step), *rest))
        except ReadError:
            return  # the clips that it tells of say so


def _texts(values: NDArray[Any]) -> list[str]:
    if values.dtype.kind == "U":
        return [text.strip() for text in values.ravel().tolist()]
    return [text.decode(errors="replace").strip() for text in values.ravel().tolist()]


def _numbers(values: NDArray[Any]) -> Values:
    with np.errstate(over="ignore"):  # what is too large is infinite, and said
        return values.astype(np.float32)
