"""What a top model is told of frames: the columns of a store, and what they are in windows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import Column, Conditions, Values, unknown
from ldf_video.errors import UsageError
from ldf_video.models.flow_config import ColumnConfig
from ldf_video.store.reader import StoreReader

MEASURED_CLIPS = 4096
"""Of which numbers are standardised, at most; and of each, its first frames."""
MEASURED_FRAMES = 4096
LEAST_SPREAD = 1e-3
"""Of numbers, as a share of their range: what hardly varies is not blown up."""


def columns_of(latents: StoreReader) -> list[dict[str, Any]]:
    """The "columns" of a fresh flow's config: those of a store of which something is known."""
    some = np.unique(np.linspace(0, latents.num_clips - 1, MEASURED_CLIPS).astype(int))
    length = min(int(latents.lengths.max()), MEASURED_FRAMES)
    if not latents.is_told:
        return []
    parts = [
        latents.conditions([clip], [0], length=min(length, int(latents.lengths[clip])))[0]
        for clip in some
    ]
    values = np.concatenate(parts).astype(np.float64)
    found = [_config(column, values[:, n]) for n, column in enumerate(latents.columns)]
    return [asdict(column) for column in found if column is not None]


def _config(column: Column, values: npt.NDArray[np.float64]) -> ColumnConfig | None:
    """A column of a flow; None where nothing is known."""
    known = values[np.isfinite(values)]
    if column.names:
        return ColumnConfig(column.name, column.names)
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    spread = max(float(known.std()), LEAST_SPREAD * (high - low)) or 1.0
    return ColumnConfig(column.name, (), float(known.mean()), spread, low, high)


def as_columns(columns: Sequence[ColumnConfig]) -> tuple[Column, ...]:
    """Those of a flow as those of clips."""
    return tuple(Column(column.name, column.names) for column in columns)


def told_of(
    store: StoreReader,
    clips: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    *,
    length: int,
    columns: Sequence[ColumnConfig],
) -> Values:
    """What a flow is told of windows, (B, length, columns), in its own columns and codes."""
    found = store.conditions(clips, starts, length=length)
    if same_columns(store, columns):
        return found
    flat = Conditions(store.columns, found.reshape(len(clips) * length, len(store.columns)))
    return flat.of_columns(as_columns(columns)).reshape(*found.shape[:2], len(columns))


def same_columns(store: StoreReader, columns: Sequence[ColumnConfig]) -> bool:
    """Whether a flow has the columns and codes of a store."""
    return as_columns(columns) == store.columns


def told_frames(
    columns: Sequence[ColumnConfig],
    known: Conditions | None,
    said: Sequence[str],
    *,
    count: int,
    of_known: str = "--conditions",
) -> Values:
    """What is told of the frames of a video, (1, count, columns), in a flow's columns.

    Args:
        columns: of the flow.
        known: of the frames from the first on; behind its end nothing is.
        said: `NAME=VALUE` for all frames.
        count: frames of the video.
        of_known: what gave `known`, as errors name it.

    Raises:
        UsageError: the flow has no such column, or no such name in it.
    """
    own = as_columns(columns)
    listed = ", ".join(described(column) for column in columns) or "none"
    told = unknown(count, own)
    if known is not None:
        names = {column.name: column for column in own}
        for number, column in enumerate(known.columns):
            if column.name not in names:
                raise UsageError(
                    f"{of_known}: column {column.name!r}: the top model knows {listed}"
                )
            if wrong := _unknown_value(known, number, names[column.name]):
                raise UsageError(
                    f"{of_known}: {column.name} is {wrong}: the top model knows {listed}"
                )
        rows = known.of_columns(own)[:count]
        told[: len(rows)] = rows
    for pair in said:
        name, _, value = pair.partition("=")
        place = next((n for n, column in enumerate(columns) if column.name == name.strip()), None)
        if place is None:
            raise UsageError(f"--condition {pair}: the top model knows {listed}")
        told[:, place] = _value(columns[place], value.strip(), f"--condition {pair}")
    return told[None]


def _unknown_value(known: Conditions, place: int, column: Column) -> str:
    """The first value of a column that means nothing in another one, in words; "" if all do."""
    values = known.values[:, place]
    lost = np.isfinite(values) & ~np.isfinite(known.of_columns([column])[:, 0])
    if not lost.any():
        return ""
    first, names = values[lost][0], known.columns[place].names
    if names:
        return repr(names[int(first)])
    return f"{first:g}" if column.is_counted else "a number"


def _value(column: ColumnConfig, text: str, said: str) -> float:
    if column.names:
        if text not in column.names:
            raise UsageError(f"{said}: {column.name} is one of {', '.join(column.names)}")
        return float(column.names.index(text))
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise UsageError(f"{said}: {column.name} is a number, such as {column.high:g}")


def described(column: ColumnConfig) -> str:
    """A column in a few words: `action (left, right)`, `speed (0 to 12)`."""
    if column.names:
        return f"{column.name} ({', '.join(column.names)})"
    return f"{column.name} ({column.low:g} to {column.high:g})"
