"""Extents as a manifest has them, and whether their rows are still what was committed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ldf_video.store.format import StoreSpec
from ldf_video.store.shards import header_size, shard_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

Extents = npt.NDArray[np.void]

_NUMBERS = ("first_frame", "shard", "start", "num_frames", "crc32")
_BLOCK_BYTES = 4 << 20
_FILE_BYTES = 1 << 20  # read ahead: most extents are smaller

SOUND_ID = "typeof(clip_id) = 'text' AND clip_id GLOB '?*' AND clip_id NOT GLOB '*[^ -~]*'"
"""SQL: an id of printable ASCII."""

SOUND = " AND ".join(
    [
        SOUND_ID,
        *(f"typeof({name}) = 'integer' AND {name} BETWEEN 0 AND {1 << 48}" for name in _NUMBERS),
        "num_frames > 0",
    ]
)
"""SQL: an extent whose values can be; sums of two cannot overflow."""


def read_extents(connection: sqlite3.Connection, *, first_shard: int, last_shard: int) -> Extents:
    """Read the extents of some shards, both ends included, in the order of their rows.

    Args:
        connection: to the manifest.
        first_shard: the lowest shard.
        last_shard: the highest one.

    Returns:
        Records (n,) of a clip's `id` (bytes), `first_frame`, `shard`, `start`, `num_frames` and
        `crc32`, without those whose values cannot be.

    Raises:
        sqlite3.Error: the manifest cannot be read.
        ValueError: a clip's id is not ASCII.
    """
    where = f"FROM extents WHERE {SOUND} AND shard BETWEEN ? AND ?"
    limits = (first_shard, last_shard)
    width = connection.execute(f"SELECT max(length(clip_id)) {where}", limits).fetchone()[0] or 1
    dtype = np.dtype([("id", f"S{width}"), *((name, "i8") for name in _NUMBERS)])
    rows = connection.execute(f"SELECT clip_id, {', '.join(_NUMBERS)} {where}", limits)
    extents = np.fromiter(rows, dtype)
    return extents[np.lexsort((extents["start"], extents["shard"]))]


def clip_of(extent: Any) -> str:
    """The id of an extent's clip."""
    return str(extent["id"].decode())


def describe(extent: Any) -> str:
    """Name an extent: its clip, its frames, its place."""
    frames = f"{extent['first_frame']} to {extent['first_frame'] + extent['num_frames']}"
    place = f"in shard {extent['shard']} from row {extent['start']}"
    return f"clip {clip_of(extent)}, frames {frames}, {place}"


def num_unreachable(extents: Extents, *, num_rows: int) -> int:
    """Count the rows of a shard that belong to no extent.

    Args:
        extents: of one shard, in the order of their rows.
        num_rows: of the shard; 0 counts as far as the last extent only.
    """
    stops = np.maximum.accumulate(extents["start"] + extents["num_frames"])
    starts = np.append(extents["start"], max(num_rows, int(stops[-1])))
    gaps = starts - np.insert(stops, 0, 0)
    return int(gaps.clip(min=0).sum())


def find_damage(
    root: Path, spec: StoreSpec, extents: Extents, *, num_rows: int
) -> Iterator[tuple[Any, str]]:
    """Read all rows of one shard's extents and find what is wrong with which.

    By ordinary reads: a file that is cut short meanwhile, or a bad sector, would be a bus error
    through a map. Memory does not grow with the extents' size.

    Args:
        root: the part's directory.
        spec: of its rows.
        extents: of one shard, in the order of their rows, see `read_extents`.
        num_rows: that the shard holds; 0 where there is no file.

    Yields:
        An extent and what is wrong with it.

    Raises:
        OSError: the file cannot be opened.
    """
    end = 0
    with _Rows(root, spec, shard=int(extents["shard"][0]), exists=num_rows > 0) as rows:
        for extent in extents:
            start, stop = int(extent["start"]), int(extent["start"] + extent["num_frames"])
            problem = f"the shard holds {num_rows} rows"
            if stop <= num_rows:
                problem = rows.check(start, stop, crc32=int(extent["crc32"]))
            if not problem and start < end:
                problem = f"overlaps the one before, which ends at row {end}"
            if problem:
                yield extent, problem
            else:  # what is wrong itself makes nothing else wrong
                end = stop


class _Rows:
    """The rows of one shard's file, to be read in order."""

    def __init__(self, root: Path, spec: StoreSpec, *, shard: int, exists: bool) -> None:
        self._header_bytes, self._row_bytes = header_size(spec), spec.row_bytes
        self._file: BinaryIO | None = None
        self._buffer = memoryview(bytearray(_BLOCK_BYTES))
        if exists:
            self._file = shard_path(root, shard).open("rb", buffering=_FILE_BYTES)

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def check(self, start: int, stop: int, *, crc32: int) -> str:
        """Say what is wrong with rows; "" if they have this checksum."""
        assert self._file is not None
        left = (stop - start) * self._row_bytes
        found = 0
        try:
            self._file.seek(self._header_bytes + start * self._row_bytes)
            while left:
                num_bytes = self._file.readinto(self._buffer[:left])  # type: ignore[attr-defined]
                if not num_bytes:
                    return "the shard was cut while it was read"
                found = zlib.crc32(self._buffer[:num_bytes], found)
                left -= num_bytes
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return "" if found == crc32 else "its checksum is wrong"
