"""Conditions: what is known of each frame beside its pixels, such as the action that led to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]

MOST_COLUMNS = 64
MOST_NAMES = 256
"""Of one column: more are no actions, but numbers or texts."""
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
_SHOWN = 20  # names


def unknown(num_frames: int, columns: Sequence[Column]) -> Values:
    """Values (num_frames, columns) of which nothing is known."""
    return np.full((num_frames, len(columns)), np.nan, np.float32)


@dataclass(frozen=True)
class Column:
    """One thing that is known of frames.

    Attributes:
        name: as the user calls it.
        names: that its values have, such as those of actions; empty where they are numbers.
    """

    name: str
    names: tuple[str, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether all its names are whole numbers."""
        return bool(self.names) and all(_COUNT.fullmatch(name) for name in self.names)

    def __str__(self) -> str:
        """It for people, such as `action (left, right)`."""
        if not self.names:
            return self.name
        more = ", ..." if len(self.names) > _SHOWN else ""
        return f"{self.name} ({', '.join(self.names[:_SHOWN])}{more})"


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is known of some frames of a clip.

    Attributes:
        columns: what there is.
        values: (n, columns) float32: a number, or the place of a name in its column's `names`; NaN
            where nothing is known. The value of a frame is what led to it: the key that was held
            from the frame before it on.
    """

    columns: tuple[Column, ...]
    values: Values

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise ValueError(
                f"conditions {self.values.shape}: expected (n, {len(self.columns)}), a number for "
                "each column"
            )

    def of_columns(self, columns: Sequence[Column]) -> Values:
        """The values in other columns, (n, columns), by their names; NaN where they lack one."""
        found = np.full((len(self.values), len(columns)), np.nan, np.float32)
        places = {column.name: place for place, column in enumerate(self.columns)}
        for place, column in enumerate(columns):
            own = places.get(column.name)
            if own is not None:
                codes = codes_of(self.columns[own], column)
                found[:, place] = recoded(self.values[:, own], codes)
        return found

    def as_frames(self) -> KnownFrames:
        """It as what is known of a clip's frames from the first on; behind its end nothing is."""

        def read(first: int, stop: int) -> Values:
            found, rows = unknown(stop - first, self.columns), self.values[first:stop]
            found[: len(rows)] = rows
            return found

        return KnownFrames(self.columns, read)


@dataclass(frozen=True, eq=False)
class KnownFrames:
    """What is known of the frames of a clip, read as they come.

    Attributes:
        columns: what there is.
        read: gives the values (stop - first, columns) of frames, by the first and the stop, NaN
            where nothing is known; raises a ReadError if it cannot.
    """

    columns: tuple[Column, ...]
    read: Callable[[int, int], Values]


def codes_of(here: Column, there: Column) -> Values | None:
    """The place in one column of each name of another, NaN for none; None where both are numbers.

    Names that are whole numbers, such as those of a game's actions, are known by these. Else, where
    one of them holds names and the other numbers, nothing is known: no codes.
    """
    if not here.names and not there.names:
        return None
    if not here.names:
        if not there.is_counted:
            return np.empty(0, np.float32)
        codes = np.full(1 + max(map(int, there.names)), np.nan, np.float32)
        codes[[int(name) for name in there.names]] = np.arange(len(there.names))
        return codes
    places = {name: place for place, name in enumerate(there.names)}
    return np.array([places.get(name, np.nan) for name in here.names], np.float32)


def recoded(values: Values, codes: Values | None) -> Values:
    """Values of one column in other codes; what has no code, or a wrong one, is NaN."""
    if codes is None:
        return values
    known = np.isfinite(values) & (values >= 0) & (values < len(codes))
    known &= values == np.floor(values)
    found = np.full(values.shape, np.nan, np.float32)
    found[known] = codes[values[known].astype(np.int64)]
    return found
