"""Conditions on disk: `conditions-00000.npy`, in step with the rows of `data-00000.npy`.

A part's manifest says which columns they have, what the codes of names mean, and of which extents
something is known, with a checksum. All else in these files means nothing: rows of clips of which
nothing is known are NaN, or were never written.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ldf_video.arrays.conditions import (
    MOST_COLUMNS,
    MOST_NAMES,
    Column,
    Conditions,
    Values,
    unknown,
)
from ldf_video.output import sync
from ldf_video.store.extents import read_told_extents
from ldf_video.store.format import sync_directory
from ldf_video.store.manifest import Manifest, read_columns
from ldf_video.store.records import ColumnRecord
from ldf_video.store.shards import (
    HEADER_BYTES,
    Position,
    Rows,
    Run,
    cut_after,
    find_damage,
    header,
    inspect_shard,
    map_rows,
    shard_path,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ldf_video.store.records import ClipRecord

_GAP_ROWS = 1 << 16


@dataclass(frozen=True)
class ConditionSpec:
    """A row of conditions: a number for each column."""

    num_columns: int
    stem: str = field(default="conditions", init=False)

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Of one frame's row."""
        return (self.num_columns,)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The type on disk."""
        return np.dtype("<f4")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row on disk."""
        return 4 * self.num_columns


class ConditionWriter:
    """The conditions of one part, open to be written; `PartWriter` says when.

    Columns are those of the first clip that has any, or that were named before it; a part's rows
    keep that width. Names get codes as they come.
    """

    def __init__(self, root: Path, manifest: Manifest, *, position: Position) -> None:
        """Cut what was not committed; `position` is where the next row of data goes."""
        self._root = root
        self._columns = manifest.columns()
        self._changed = False
        self._file: _RowFile | None = None
        self.cut(position)

    @property
    def columns(self) -> tuple[Column, ...]:
        """As of the next commit, in the order of the file."""
        return tuple(Column(one.name, tuple(one.names)) for one in self._columns)

    def cut(self, position: Position) -> None:
        """Drop the rows at and after a position, which need not be reached."""
        self.close()
        if not self._columns:
            return
        there = inspect_shard(self._root, self._spec, shard=position.shard)
        row = 0 if there is None else min(position.row, there.num_rows)
        cut_after(self._root, self._spec, position=Position(position.shard, row))

    @property
    def _spec(self) -> ConditionSpec:
        return ConditionSpec(len(self._columns))

    def begin(self, columns: Sequence[Column], usual: Sequence[str]) -> str:
        """Make room for a clip's columns, or say in a few words why they do not fit.

        `usual` names all columns that there are to be where there are none yet.
        """
        if not self._columns:
            names = list(dict.fromkeys([*usual] or [column.name for column in columns]))
            if len(names) > MOST_COLUMNS:
                return f"{len(names)} columns, expected {MOST_COLUMNS} at most"
            self._columns = [ColumnRecord(name) for name in names]
            self._changed = True
        known = {one.name: one for one in self._columns}
        for column in columns:
            one = known.get(column.name)
            if one is None:
                return (
                    f"column {column.name!r}, expected {', '.join(known)}, which the other clips "
                    "have"
                )
            kind = "name" if column.names else "number"
            if one.kind not in ("", kind):
                return f"{column.name} holds {kind}s, in other clips {one.kind}s"
            if len({*one.names, *column.names}) > MOST_NAMES:
                return f"{column.name} has more than {MOST_NAMES} different names in all clips"
        for column in columns:
            one = known[column.name]
            new = [name for name in column.names if name not in one.names]
            if new or not one.kind:
                one.kind = "name" if column.names else "number"
                one.names += new
                self._changed = True
        return ""

    def coded(self, conditions: Conditions) -> Values:
        """Values (n, columns) as they are stored, of columns that `begin` has taken."""
        return conditions.of_columns(self.columns)

    def write(self, clips: Iterable[ClipRecord], runs: Iterable[Sequence[Run]]) -> list[list[int]]:
        """Write what is known of clips beside their runs of rows, and wait until it is on disk.

        Returns:
            For each clip a checksum for each of its runs, or none where nothing is known of it.
        """
        sums = [list(self._of_clip(clip, its)) for clip, its in zip(clips, runs, strict=True)]
        self.close(keep=True)
        return sums

    def _of_clip(self, clip: ClipRecord, runs: Sequence[Run]) -> Iterator[int]:
        if all(values is None for values in clip.conditions):
            return
        parts = [
            unknown(len(block), self.columns) if values is None else values
            for block, values in zip(clip.blocks, clip.conditions, strict=True)
        ]
        values, first = np.concatenate(parts), 0
        for run in runs:
            if self._file is None or self._file.shard != run.shard:
                self.close(keep=True)
                self._file = _RowFile(self._root, self._spec, shard=run.shard)
            piece = np.ascontiguousarray(values[first : first + run.num_frames], "<f4")
            yield self._file.put(run.start, piece)
            first += run.num_frames

    def put(self, manifest: Manifest) -> None:
        """Note the columns in a transaction, if there are new ones or new names."""
        if self._changed:
            manifest.put_columns(self._columns)
            self._changed = False

    def close(self, *, keep: bool = False) -> None:
        """Close the file that is open; what was written is wanted if it is to `keep`."""
        file, self._file = self._file, None
        if file is not None:
            file.end(keep=keep)


class _RowFile:
    """One file of conditions, whose rows may begin anywhere."""

    def __init__(self, root: Path, spec: ConditionSpec, *, shard: int) -> None:
        self.shard, self._spec = shard, spec
        path = shard_path(root, shard, stem=spec.stem)
        there = inspect_shard(root, spec, shard=shard)
        is_new = there is None or there.header_rows < 0
        self._file: BinaryIO = path.open("wb" if is_new else "r+b")
        if is_new:
            self._file.write(header(spec, 0))
            self._file.flush()
            sync_directory(root)
        self._num_rows = 0 if there is None or is_new else there.num_rows

    def put(self, start: int, values: Rows) -> int:
        """Write rows from a place on, and NaN between the file's end and there; the CRC-32."""
        row = min(start, self._num_rows)
        self._file.seek(HEADER_BYTES + row * self._spec.row_bytes, io.SEEK_SET)
        while row < start:
            gap = np.full((min(start - row, _GAP_ROWS), self._spec.num_columns), np.nan, "<f4")
            self._file.write(gap.data)
            row += len(gap)
        self._file.write(values.data)
        self._num_rows = max(self._num_rows, start + len(values))
        return zlib.crc32(values.data)

    def end(self, *, keep: bool) -> None:
        """Close; what is to `keep` is on disk then, and counted by the header."""
        try:
            if keep:
                self._file.seek(0)
                self._file.write(header(self._spec, self._num_rows))
                self._file.flush()
                sync(self._file.fileno())
        finally:
            with suppress(OSError):
                self._file.close()


def lost_conditions(root: Path) -> Iterator[tuple[Any, str]]:
    """Extents of a part whose conditions are damaged, and how; all of them are read.

    Raises:
        StoreError: a file cannot be read for another reason than that it is not whole.
    """
    columns = read_columns(root)
    if not columns:
        return
    spec, extents = ConditionSpec(len(columns)), read_told_extents(root)
    for shard in np.unique(extents["shard"]):
        own = extents[extents["shard"] == shard]
        there = inspect_shard(root, spec, shard=int(shard))
        path = shard_path(root, int(shard), stem=spec.stem)
        num_rows = 0 if there is None or there.header_rows < 0 else there.num_rows
        yield from find_damage(path, spec, own, num_rows=num_rows)


def is_short(root: Path, manifest: Manifest) -> bool:
    """Whether a file of a part's conditions has fewer rows than are known, or no header."""
    ends, columns = manifest.told_ends(), manifest.columns()
    spec = ConditionSpec(len(columns))
    for shard, num_rows in ends.items():
        there = inspect_shard(root, spec, shard=shard)
        if there is None or there.header_rows < 0 or there.num_rows < num_rows:
            return True
    return False


def _place_of(name: str) -> tuple[bool, int, str]:
    """What names are sorted by: those that are numbers first, 2 before 10."""
    is_number = name.isascii() and name.isdecimal()
    return not is_number, int(name) if is_number else 0, name


class ConditionReader:
    """What all parts of a store know of its frames, as columns that they share.

    Attributes:
        columns: in the order of their names, and so are the names in each.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        """Read the columns of all parts."""
        self._own = [read_columns(part) for part in parts]
        names: dict[str, set[str]] = {}
        for columns in self._own:
            for one in columns:
                names.setdefault(one.name, set()).update(one.names)
        self.columns = tuple(
            Column(name, tuple(sorted(names[name], key=_place_of))) for name in sorted(names)
        )
        self._shards: list[tuple[int, Rows | None]] = []  # of each shard its part, and rows

    def map(self, part: int, root: Path, *, shard: int, num_rows: int) -> None:
        """Map the next shard's conditions, of so many rows; none if that is 0."""
        rows = None
        if num_rows:
            spec = ConditionSpec(len(self._own[part]))
            rows = map_rows(root, spec, shard=shard, num_rows=num_rows)
        self._shards.append((part, rows))

    def values(self, shards: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> Values:
        """Values (n, columns) of rows of shards, as they were mapped in turn; -1 is no row."""
        found = unknown(len(rows), self.columns)
        for shard in np.unique(shards[rows >= 0]):
            part, mapped = self._shards[shard]
            here = (shards == shard) & (rows >= 0)
            if mapped is not None:
                stored = Conditions(
                    tuple(Column(one.name, tuple(one.names)) for one in self._own[part]),
                    mapped[rows[here]].astype(np.float32),
                )
                found[here] = stored.of_columns(self.columns)
        return found
