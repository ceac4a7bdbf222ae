"""Extents, and other tables of a manifest that are read as a whole: arrays of checked numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ldf_video.store.manifest import TOLD, has_table, reading
from ldf_video.store.records import FINISHED

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    import numpy.typing as npt

_VALID_ID = "typeof(clip_id) = 'text' AND clip_id GLOB '?*' AND clip_id NOT GLOB '*[^ -~]*'"
_NUMBERS = ("first_frame", "shard", "start", "num_frames", "crc32")

# values that can be; sums of two of an extent's cannot overflow
VALID_EXTENT = f"{_VALID_ID} AND num_frames > 0" + "".join(
    f" AND typeof({name}) = 'integer' AND {name} BETWEEN 0 AND {1 << 48}" for name in _NUMBERS
)
VALID_CLIP = f"{_VALID_ID} AND status IN {('partial', *FINISHED)}" + "".join(
    f" AND typeof({name}) = 'integer' AND {name} > 0"
    for name in ("num_frames", "fps_num", "fps_den")
)


def read_records(
    connection: sqlite3.Connection, rows: str, *numbers: str, values: tuple[int, ...] = ()
) -> npt.NDArray[np.void]:
    """Read rows of a table as records (n,) of the clip's `id` (bytes) and of `numbers` (int64).

    `rows` is the table, and which of its rows in which order, in SQL. From then on the connection
    gives text as bytes. Besides what SQLite raises, a value that is no number or id is a
    ValueError, OverflowError or TypeError.
    """
    connection.text_factory = bytes  # a million calls the fewer
    query = f"SELECT max(length(CAST(clip_id AS BLOB))) FROM {rows}"
    width = connection.execute(query, values).fetchone()[0] or 1
    dtype = np.dtype([("id", f"S{width}"), *((name, np.int64) for name in numbers)])
    columns = ", ".join(("clip_id", *numbers))
    return np.fromiter(connection.execute(f"SELECT {columns} FROM {rows}", values), dtype)


def read_extents(part: Path, first_shard: int, last_shard: int) -> npt.NDArray[np.void]:
    """The extents of some shards in the order of their rows, but for those that cannot be."""
    rows = f"extents WHERE {VALID_EXTENT} AND shard BETWEEN ? AND ?"
    with reading(part) as connection:
        extents = read_records(connection, rows, *_NUMBERS, values=(first_shard, last_shard))
    return extents[np.lexsort((extents["start"], extents["shard"]))]


def read_cuts(part: Path) -> npt.NDArray[np.void]:
    """Read all cuts of a part as records (n,) of the clip's `id` and `frame`, in their order."""
    with reading(part) as connection:
        has_cuts = has_table(connection, "cuts")
        rows = "cuts" if has_cuts else "(SELECT clip_id, num_frames AS frame FROM clips WHERE 0)"
        return read_records(connection, f"{rows} ORDER BY clip_id, frame", "frame")


def read_told_extents(part: Path) -> npt.NDArray[np.void]:
    """The extents of which conditions are known, in the order of their rows.

    Their `crc32` is that of the conditions.
    """
    with reading(part) as connection:
        if not has_table(connection, "conditions"):
            return np.empty(0, [("id", "S1"), *((name, np.int64) for name in _NUMBERS)])
        rows = f"({TOLD}) WHERE {VALID_EXTENT}"
        extents = read_records(connection, rows, *_NUMBERS)
    return extents[np.lexsort((extents["start"], extents["shard"]))]
